package goruntime

import "debug/elf"

// tlsSymbols are the thread-local variable that holds G: runtime.tlsg on amd64 (cmd/link/internal/ld/data.go), runtime.tls_g on arm64
// (runtime/tls_arm64.s).
var tlsSymbols = []string{"runtime.tlsg", "runtime.tls_g"}

// findTLS works out the offset of G's slot from the thread pointer.
//
// A program that has no PT_TLS segment was linked by Go alone, which puts the slot at a fixed place: -8 from FS on amd64 (ctxt.Tlsoffset in
// cmd/link/internal/ld/sym.go); the C library's loader is not involved. With PT_TLS the loader lays the program's own TLS block out first, so
// that the System V rules give the offset: below the thread pointer on amd64 (variant 2), behind a 16-byte header on arm64 (variant 1).
func (b *Binary) findTLS(im *image, syms map[string]symbol) {
	var block *elf.Prog
	for _, p := range im.f.Progs {
		if p.Type == elf.PT_TLS {
			block = p
			break
		}
	}
	if b.Arch == "arm64" && !b.Cgo {
		b.GRegister = true
		return
	}
	if block == nil {
		if b.Arch == "amd64" {
			b.TLSG, b.TLSGKnown = -8, true
		}
		return
	}
	name := "runtime.tlsg"
	if b.Arch == "arm64" {
		name = "runtime.tls_g"
	}
	slot, ok := syms[name]
	if !ok || slot.typ != elf.STT_TLS {
		return
	}
	b.TLSG, b.TLSGKnown = tlsOffset(b.Arch, block, slot.value)
}

// tlsOffset turns an offset inside the program's TLS block into one from the thread pointer.
func tlsOffset(arch string, block *elf.Prog, inBlock uint64) (off int64, ok bool) {
	align := max(block.Align, 1)
	const limit = 1 << 30
	if align&(align-1) != 0 || align > limit || block.Memsz > limit || inBlock > block.Memsz || block.Memsz-inBlock < 8 {
		return 0, false
	}
	if arch == "arm64" {
		return int64((16+align-1)&^(align-1) + inBlock), true
	}
	return int64(inBlock) - int64((block.Memsz+align-1)&^(align-1)), true
}
