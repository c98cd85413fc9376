package binary

import "debug/elf"

// TLS is the program's own block of thread-local storage. The loader lays one out for each thread, in a place that the
// System V rules give: below the thread pointer on amd64 (variant 2), behind a 16-byte header on arm64 (variant 1).
type TLS struct {
	file  *File
	block elf.ProgHeader
}

// TLS gives the program's thread-local storage; nil for a program without it, as Go's own linker makes them.
func (f *File) TLS() *TLS {
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_TLS {
			return &TLS{f, p.ProgHeader}
		}
	}
	return nil
}

// Offset turns a place in the block into an offset from the thread pointer.
func (t *TLS) Offset(inBlock uint64) (off int64, ok bool) {
	align := max(t.block.Align, 1)
	const limit = 1 << 30
	if align&(align-1) != 0 || align > limit || t.block.Memsz > limit || inBlock > t.block.Memsz ||
		t.block.Memsz-inBlock < 8 {
		return 0, false
	}
	if t.file.Arch == "arm64" {
		return int64((16+align-1)&^(align-1) + inBlock), true
	}
	return int64(inBlock) - int64((t.block.Memsz+align-1)&^(align-1)), true
}

// OffsetIn reads the offset from the thread pointer that a slot of the global offset table holds. loaded says that the
// loader fills the slot: its relocation names the place in the block. Otherwise the linker has left the offset itself.
func (t *TLS) OffsetIn(slot uint64) (off int64, loaded, ok bool) {
	f := t.file
	f.relocations(func(r relocation) bool {
		if r.offset == slot && r.threadLocal(f.Arch) {
			// The variable is the program's own: the relocation names no symbol, and the addend is the place in the
			// block.
			loaded = true
			if r.info>>32 == 0 && r.addend >= 0 {
				off, ok = t.Offset(uint64(r.addend))
			}
		}
		return !loaded
	})
	if loaded {
		return off, true, ok
	}
	var b [8]byte
	if f.ReadFull(slot, b[:]) != nil {
		return 0, false, false
	}
	off = int64(f.le.Uint64(b[:]))
	return off, false, PlausibleTLSOffset(off)
}

// SlotOf finds the slot of the global offset table into which the loader puts the offset of a variable, by the
// variable's place in the block; 0 if there is none.
func (t *TLS) SlotOf(inBlock uint64) (slot uint64) {
	f := t.file
	f.relocations(func(r relocation) bool {
		if r.threadLocal(f.Arch) && r.info>>32 == 0 && uint64(r.addend) == inBlock {
			slot = r.offset
		}
		return slot == 0
	})
	return slot
}

// PlausibleTLSOffset reports whether a number can be the offset of a pointer from the thread pointer. It keeps a
// decoding error from being taken for one.
func PlausibleTLSOffset(off int64) bool { return off != 0 && off%8 == 0 && off > -1<<30 && off < 1<<30 }
