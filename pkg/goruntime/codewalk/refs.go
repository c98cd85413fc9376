package codewalk

import (
	"encoding/binary"

	"golang.org/x/arch/x86/x86asm"
)

// globalRefs lists the addresses of global variables that a function's instructions refer to, in the order of the code.
// It decodes straight through from the function's start, and stops at an instruction that cannot be decoded.
func globalRefs(arch string, code []byte, addr uint64) []uint64 {
	if arch == "arm64" {
		return globalRefsARM64(code, addr)
	}
	return globalRefsAMD64(code, addr)
}

// globalRefsAMD64 collects the targets of RIP-relative operands, which is how the Go compiler addresses variables
// (cmd/internal/obj/x86/asm6.go).
func globalRefsAMD64(code []byte, addr uint64) []uint64 {
	var refs []uint64
	for at := 0; at < len(code); {
		in, err := x86asm.Decode(code[at:], 64)
		if err != nil || in.Len == 0 {
			break
		}
		at += in.Len
		for _, arg := range in.Args {
			if m, ok := arg.(x86asm.Mem); ok && m.Base == x86asm.RIP {
				refs = append(refs, addr+uint64(at)+uint64(m.Disp))
			}
		}
	}
	return refs
}

// globalRefsARM64 collects the targets of ADRP followed by ADD, or by a load or store with an immediate offset, which
// is how the Go compiler and linker address variables (cmd/internal/obj/arm64/asm7.go). A register counts as set until
// the next instruction that is known to overwrite it or for a few instructions, whichever comes first.
func globalRefsARM64(code []byte, addr uint64) []uint64 {
	const lifetime = 6
	var (
		refs  []uint64
		value [32]uint64
		until [32]int // instruction up to which value holds; 0: not set
	)
	for i := 0; i+4 <= len(code); i += 4 {
		n := i/4 + 1
		w := insnARM64(code, i)
		rd, rn := w&31, w>>5&31
		switch {
		case w&0x9f000000 == 0x90000000: // ADRP rd, page
			value[rd] = adrpTarget(w, addr+uint64(i))
			until[rd] = n + lifetime
		case w&0xffc00000 == 0x91000000: // ADD rd, rn, #imm
			if until[rn] >= n {
				target := value[rn] + uint64(w>>10&0xfff)
				refs = append(refs, target)
				value[rd], until[rd] = target, n+lifetime
			} else {
				until[rd] = 0
			}
		case w&0x3f000000 == 0x39000000: // LDR or STR of an integer register, [rn, #imm scaled by size]
			if until[rn] >= n {
				refs = append(refs, value[rn]+uint64(w>>10&0xfff)<<(w>>30))
			}
			if w>>22&3 != 0 {
				until[rd] = 0 // a load overwrites it
			}
		case w&0xff800000 == 0xa9000000: // LDP or STP of two 64-bit registers, [rn, #imm]
			if until[rn] >= n {
				target := value[rn] + uint64(int64(int32(w<<10)>>25)*8) // seven bits, sign-extended
				refs = append(refs, target, target+8)
			}
			if w>>22&1 != 0 {
				until[rd], until[w>>10&31] = 0, 0
			}
		}
	}
	return refs
}

// adrpTarget is the page that an ADRP instruction at addr computes: immhi:immlo pages from its own, sign-extended.
func adrpTarget(w uint32, addr uint64) uint64 {
	imm := int64(int32(w<<8)>>13)<<2 | int64(w>>29&3)
	return uint64(int64(addr&^4095) + imm<<12)
}

// insnARM64 is the instruction at a place in the code.
func insnARM64(code []byte, at int) uint32 { return binary.LittleEndian.Uint32(code[at:]) }
