package binary

import (
	"debug/elf"
	"io"
)

// window reads forward through a table with few reads of the file.
type window struct {
	file *File
	base uint64
	buf  []byte
	from uint64 // offset from base of buf[0]
	n    uint64
}

func newWindow(f *File, base uint64) *window {
	return &window{file: f, base: base, buf: make([]byte, 64<<10)}
}

// bytes gives size bytes at an offset from the window's base; they are valid until the next call.
func (w *window) bytes(off uint64, size int) ([]byte, error) {
	if off < w.from || off-w.from+uint64(size) > w.n {
		if off > maxPcTable {
			return nil, errBounds
		}
		n, err := w.file.Read(w.base+off, w.buf)
		if n < size {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		w.from, w.n = off, uint64(n)
	}
	at := off - w.from
	return w.buf[at : at+uint64(size)], nil
}

// relocation is an entry of the dynamic relocation table.
type relocation struct {
	offset uint64
	info   uint64
	addend int64
}

func (r relocation) relative(arch string) bool {
	if arch == "arm64" {
		return uint32(r.info) == uint32(elf.R_AARCH64_RELATIVE)
	}
	return uint32(r.info) == uint32(elf.R_X86_64_RELATIVE)
}

// threadLocal reports whether the loader puts an offset from the thread pointer at r.offset.
func (r relocation) threadLocal(arch string) bool {
	if arch == "arm64" {
		return uint32(r.info) == uint32(elf.R_AARCH64_TLS_TPREL64)
	}
	return uint32(r.info) == uint32(elf.R_X86_64_TPOFF64)
}

// relocations calls fn for each entry of the table DT_RELA, until it returns false.
func (f *File) relocations(fn func(relocation) bool) {
	var addr, size uint64
	for _, p := range f.elf.Progs {
		if p.Type != elf.PT_DYNAMIC {
			continue
		}
		dyn := make([]byte, min(p.Filesz, 64<<10))
		n, err := f.r.ReadAt(dyn, int64(min(p.Off, 1<<62)))
		if err != nil && n == 0 {
			return
		}
		for dyn = dyn[:n]; len(dyn) >= 16; dyn = dyn[16:] {
			switch elf.DynTag(f.le.Uint64(dyn)) {
			case elf.DT_RELA:
				addr = f.le.Uint64(dyn[8:])
			case elf.DT_RELASZ:
				size = f.le.Uint64(dyn[8:])
			}
		}
	}
	const entry = 24
	if addr == 0 || size > maxPcTable {
		return
	}
	w := newWindow(f, addr)
	for off := uint64(0); off+entry <= size; off += entry {
		b, err := w.bytes(off, entry)
		if err != nil {
			return
		}
		if !fn(relocation{f.le.Uint64(b), f.le.Uint64(b[8:]), int64(f.le.Uint64(b[16:]))}) {
			return
		}
	}
}

// pointer is the link-time value of a pointer variable: what a relocation puts there, or else the file's contents.
func (f *File) pointer(addr uint64) (value uint64, ok bool) {
	if f.elf.Type == elf.ET_DYN {
		f.relocations(func(r relocation) bool {
			if r.offset == addr && r.relative(f.Arch) {
				value, ok = uint64(r.addend), true
			}
			return !ok
		})
		if ok {
			return value, true
		}
	}
	var b [8]byte
	if f.ReadFull(addr, b[:]) != nil {
		return 0, false
	}
	return f.le.Uint64(b[:]), true
}
