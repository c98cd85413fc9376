package codewalk

import (
	"debug/elf"
	"slices"

	"golang.org/x/arch/x86/x86asm"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
)

// CurrentG says where a thread keeps its current G, which is g0 while it runs the scheduler.
type CurrentG struct {
	// TLSG is the offset of the thread's slot for G from the thread pointer: FS base on amd64, TPIDR_EL0 on arm64. It
	// is valid only if TLSGKnown.
	TLSG      int64
	TLSGKnown bool
	// TLSGSlot is the link-time address of the word in which the dynamic loader leaves that offset; 0 if there is none.
	// A shared library needs it: before it is loaded, nobody knows its place in a thread's memory.
	TLSGSlot uint64
	// GRegister says that G is in a register (x28) and nowhere else: arm64 programs without cgo never store it
	// (runtime/tls_arm64.s, save_g returns early unless iscgo).
	GRegister bool
}

// tlsSymbols are the thread-local variable that holds G: runtime.tlsg on amd64 (cmd/link/internal/ld/data.go),
// runtime.tls_g on arm64 (runtime/tls_arm64.s).
var tlsSymbols = []string{"runtime.tlsg", "runtime.tls_g"}

// tlsFuncs are assembly functions that use it (runtime/asm_amd64.s, runtime/tls_arm64.s), for programs without symbols.
// Those of the symbol table carry the suffix of their calling convention.
var tlsFuncs = []string{
	"runtime.mcall", "runtime.asmcgocall", "runtime.asmcgocall.abi0", "runtime.morestack", "runtime.morestack.abi0",
	"runtime.save_g", "runtime.save_g.abi0", "runtime.load_g", "runtime.load_g.abi0",
}

// GSymbols lists the symbols that [FindG] looks at, by their full names.
func GSymbols() []string { return slices.Concat(tlsSymbols, tlsFuncs) }

// FindG works out where a thread of the program keeps its current G.
//
// A program without thread-local storage of its own was linked by Go alone, which puts the slot at a fixed place: -8
// from FS on amd64 (ctxt.Tlsoffset in cmd/link/internal/ld/sym.go). Otherwise the slot is in the program's block of
// thread-local storage. The symbol says where in the block; without symbols, code that uses the slot does.
func FindG(f *binary.File, cgo bool, syms map[string]binary.Symbol) (g CurrentG) {
	if f.Arch == "arm64" && !cgo {
		g.GRegister = true
		return g
	}
	tls := f.TLS()
	if tls == nil {
		if f.Arch == "amd64" {
			g.TLSG, g.TLSGKnown = -8, true
		}
		return g
	}
	name := "runtime.tlsg"
	if f.Arch == "arm64" {
		name = "runtime.tls_g"
	}
	if slot, ok := syms[name]; ok && slot.Type == elf.STT_TLS {
		g.TLSG, g.TLSGKnown = tls.Offset(slot.Addr)
		g.TLSGSlot = tls.SlotOf(slot.Addr)
		return g
	}
	use := tlsUseAMD64
	if f.Arch == "arm64" {
		use = tlsUseARM64
	}
	for _, fn := range tlsFuncs {
		s, ok := syms[fn]
		if !ok {
			continue
		}
		code := make([]byte, min(s.Size, 1024))
		n, err := f.Read(s.Addr, code)
		if err != nil {
			continue
		}
		u := use(code[:n], s.Addr)
		if u.slot == 0 {
			g.TLSG, g.TLSGKnown = u.off, u.ok && binary.PlausibleTLSOffset(u.off)
		} else {
			var loaded bool
			if g.TLSG, loaded, g.TLSGKnown = tls.OffsetIn(u.slot); loaded {
				g.TLSGSlot = u.slot
			}
		}
		if g.TLSGKnown {
			break
		}
	}
	return g
}

// tlsUse is how code refers to the slot of G: by its offset from the thread pointer, or by the slot of the global
// offset table that holds the offset.
type tlsUse struct {
	off  int64
	slot uint64 // 0: off counts
	ok   bool
}

// tlsUseAMD64 looks for an access to the slot. It is at a constant offset from FS, or at an offset in a register that
// was just loaded with a constant or from the global offset table (cmd/internal/obj/x86/asm6.go).
func tlsUseAMD64(code []byte, addr uint64) tlsUse {
	type source struct {
		constant int64
		got      uint64
	}
	regs := make(map[x86asm.Reg]source)
	for at := 0; at < len(code); {
		in, err := x86asm.Decode(code[at:], 64)
		if err != nil || in.Len == 0 {
			return tlsUse{}
		}
		at += in.Len
		for _, arg := range in.Args {
			m, isMem := arg.(x86asm.Mem)
			if !isMem || m.Segment != x86asm.FS || m.Index != 0 {
				continue
			}
			if m.Base == 0 {
				return tlsUse{off: int64(int32(m.Disp)), ok: true}
			}
			if src, known := regs[m.Base]; known && m.Disp == 0 {
				if src.got != 0 {
					return tlsUse{slot: src.got, ok: true}
				}
				return tlsUse{off: src.constant, ok: true}
			}
			return tlsUse{}
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
	return tlsUse{}
}

// tlsUseARM64 looks behind the instruction that reads TPIDR_EL0 for the offset that is added to it. The offset is a
// constant, which already includes the 16-byte header: in MOVZ or, where a C linker replaced a load from the global
// offset table, in MOVZ and MOVK. Otherwise it is such a load (cmd/internal/obj/arm64/asm7.go, C_TLS_LE and C_TLS_IE).
func tlsUseARM64(code []byte, addr uint64) tlsUse {
	type source struct {
		page, constant, got uint64
		known               bool // constant is
	}
	var regs [32]source
	seen := false
	for i := 0; i+4 <= len(code); i += 4 {
		w := insnARM64(code, i)
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
				return tlsUse{off: int64(regs[rm].constant), ok: true}
			case regs[rm].got != 0:
				return tlsUse{slot: regs[rm].got, ok: true}
			}
			return tlsUse{}
		}
	}
	return tlsUse{}
}
