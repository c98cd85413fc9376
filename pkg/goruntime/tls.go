package goruntime

import (
	"debug/elf"
	"encoding/binary"

	"golang.org/x/arch/x86/x86asm"
)

// tlsSymbols are the thread-local variable that holds G: runtime.tlsg on amd64 (cmd/link/internal/ld/data.go), runtime.tls_g on arm64
// (runtime/tls_arm64.s).
var tlsSymbols = []string{"runtime.tlsg", "runtime.tls_g"}

// tlsFuncs are assembly functions that use it (runtime/asm_amd64.s, runtime/tls_arm64.s), for programs without symbols. Those of the symbol table
// carry the suffix of their calling convention.
var tlsFuncs = []string{"mcall", "asmcgocall", "asmcgocall.abi0", "morestack", "morestack.abi0", "save_g", "save_g.abi0", "load_g", "load_g.abi0"}

// findTLS works out the offset of G's slot from the thread pointer.
//
// A program that has no PT_TLS segment was linked by Go alone, which puts the slot at a fixed place: -8 from FS on amd64 (ctxt.Tlsoffset in
// cmd/link/internal/ld/sym.go); the C library's loader is not involved. With PT_TLS the loader lays the program's own TLS block out first, so
// that the System V rules give the offset: below the thread pointer on amd64 (variant 2), behind a 16-byte header on arm64 (variant 1). Where in
// the block the slot is, the symbol says, or the code that uses it.
func (b *Binary) findTLS(im *image, syms map[string]symbol) {
	if b.Arch == "arm64" && !b.Cgo {
		b.GRegister = true
		return
	}
	block := im.tlsBlock()
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
	if slot, ok := syms[name]; ok && slot.typ == elf.STT_TLS {
		b.TLSG, b.TLSGKnown = tlsOffset(b.Arch, block, slot.value)
		b.TLSGSlot = im.tlsSlotOf(slot.value)
		return
	}
	defer func() { b.TLSGSlot = im.tlsSlotUsed }()
	for _, fn := range tlsFuncs {
		s, ok := syms["runtime."+fn]
		if !ok {
			continue
		}
		code := make([]byte, min(s.size, 1024))
		n, err := im.readVA(s.value, code)
		if err != nil {
			continue
		}
		use := tlsUseAMD64
		if b.Arch == "arm64" {
			use = tlsUseARM64
		}
		if b.TLSG, b.TLSGKnown = use(im, block, code[:n], s.value); b.TLSGKnown {
			return
		}
	}
}

func (im *image) tlsBlock() *elf.Prog {
	for _, p := range im.f.Progs {
		if p.Type == elf.PT_TLS {
			return p
		}
	}
	return nil
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

// tlsSlot reads the offset from the thread pointer out of a slot of the global offset table: the loader's relocation gives the place in the TLS
// block, a linker that knows better leaves the number itself.
func (im *image) tlsSlot(block *elf.Prog, got uint64) (off int64, ok bool) {
	relocated := false
	im.relocations(func(r relocation) bool {
		if r.offset == got && r.threadLocal(im.arch) {
			// The slot is the program's own: the relocation names no symbol, and the addend is the place in the block.
			relocated = true
			im.tlsSlotUsed = got
			if r.info>>32 == 0 && r.addend >= 0 {
				off, ok = tlsOffset(im.arch, block, uint64(r.addend))
			}
		}
		return !relocated
	})
	if relocated {
		return off, ok
	}
	var b [8]byte
	if im.readFullVA(got, b[:]) != nil {
		return 0, false
	}
	off = int64(im.le.Uint64(b[:]))
	return off, plausibleTLS(off)
}

// tlsSlotOf finds the slot of the global offset table into which the loader puts the offset of a variable from the
// thread pointer, by the variable's place in the TLS block; 0 if there is none.
func (im *image) tlsSlotOf(inBlock uint64) (slot uint64) {
	im.relocations(func(r relocation) bool {
		if r.threadLocal(im.arch) && r.info>>32 == 0 && uint64(r.addend) == inBlock {
			slot = r.offset
		}
		return slot == 0
	})
	return slot
}

// plausibleTLS keeps a decoding error from being taken for an offset.
func plausibleTLS(off int64) bool { return off != 0 && off%8 == 0 && off > -1<<30 && off < 1<<30 }

// tlsUseAMD64 looks for an access to the slot: at a constant offset from FS, or at one in a register that was just loaded with a constant or from
// the global offset table (cmd/internal/obj/x86/asm6.go).
func tlsUseAMD64(im *image, block *elf.Prog, code []byte, addr uint64) (off int64, ok bool) {
	type source struct {
		constant int64
		got      uint64
	}
	regs := make(map[x86asm.Reg]source)
	for at := 0; at < len(code); {
		in, err := x86asm.Decode(code[at:], 64)
		if err != nil || in.Len == 0 {
			return 0, false
		}
		at += in.Len
		for _, arg := range in.Args {
			m, isMem := arg.(x86asm.Mem)
			if !isMem || m.Segment != x86asm.FS || m.Index != 0 {
				continue
			}
			if m.Base == 0 {
				return int64(int32(m.Disp)), plausibleTLS(int64(int32(m.Disp)))
			}
			if src, known := regs[m.Base]; known && m.Disp == 0 {
				if src.got != 0 {
					return im.tlsSlot(block, src.got)
				}
				return src.constant, plausibleTLS(src.constant)
			}
			return 0, false
		}
		dst, isReg := in.Args[0].(x86asm.Reg)
		if !isReg {
			continue
		}
		delete(regs, dst)
		if in.Op != x86asm.MOV {
			continue
		}
		switch src := in.Args[1].(type) {
		case x86asm.Imm:
			regs[dst] = source{constant: int64(src)}
		case x86asm.Mem:
			if src.Base == x86asm.RIP && src.Segment == 0 {
				regs[dst] = source{got: addr + uint64(at) + uint64(src.Disp)}
			}
		}
	}
	return 0, false
}

// tlsUseARM64 looks behind the reading of TPIDR_EL0 for the offset that is then added to it: a constant, which already includes the 16-byte header, in
// MOVZ or, where a C linker replaced a load from the global offset table, in MOVZ and MOVK; else such a load (cmd/internal/obj/arm64/asm7.go,
// C_TLS_LE and C_TLS_IE).
func tlsUseARM64(im *image, block *elf.Prog, code []byte, addr uint64) (off int64, ok bool) {
	type source struct {
		page, constant, got uint64
		known               bool // constant is
	}
	var regs [32]source
	seen := false
	for i := 0; i+4 <= len(code); i += 4 {
		w := binary.LittleEndian.Uint32(code[i:])
		rd, rn, rm := w&31, w>>5&31, w>>16&31
		imm16, shift := uint64(w>>5&0xffff), (w>>21&3)*16
		switch {
		case w&^31 == 0xd53bd040: // MRS Xd, TPIDR_EL0
			seen = true
		case !seen:
		case w&0xff800000 == 0xd2800000: // MOVZ Xd, #imm, LSL #shift
			regs[rd] = source{constant: imm16 << shift, known: true}
		case w&0xff800000 == 0xf2800000: // MOVK Xd, #imm, LSL #shift
			regs[rd].constant = regs[rd].constant&^(0xffff<<shift) | imm16<<shift
		case w&0x9f000000 == 0x90000000: // ADRP Xd
			regs[rd] = source{page: adrpTarget(w, addr+uint64(i))}
		case w&0xffc00000 == 0xf9400000: // LDR Xd, [Xn, #imm]
			if regs[rn].page == 0 {
				regs[rd] = source{}
				continue
			}
			regs[rd] = source{got: regs[rn].page + uint64(w>>10&0xfff)*8}
		case w&0xffe0fc00 == 0xf8606800, w&0xffe0fc00 == 0xf8206800: // LDR or STR Xd, [Xn, Xm]
			switch {
			case regs[rm].known:
				off = int64(regs[rm].constant)
				return off, plausibleTLS(off)
			case regs[rm].got != 0:
				return im.tlsSlot(block, regs[rm].got)
			}
			return 0, false
		}
	}
	return 0, false
}
