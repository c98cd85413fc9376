package probes

import (
	"golang.org/x/arch/arm64/arm64asm"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
)

// Started is the name of the site at which a goroutine starts to run: early in execute, where its g still is the first
// argument (runtime/proc.go). Every start comes through there, except when a goroutine returns from a system call and
// finds a P by itself.
const Started = "execute"

// emulatedSite replaces a site that is single-stepped by a later one of the same function that is not, if there is one.
func emulatedSite(f *binary.File, site Site) Site {
	if site.Emulated || f.Arch != "arm64" {
		return site
	}
	var buf [prologue]byte
	n, err := f.Read(site.Addr, buf[:])
	if err != nil {
		return site
	}
	at, insn, ok := firstEmulatedARM64(buf[:n], site.Addr)
	if !ok {
		return site
	}
	later, ok := newSite(f, site.Addr+uint64(at))
	if !ok {
		return site
	}
	later.Func, later.Emulated, later.Insn = site.Func, true, insn
	return later
}

// firstEmulatedARM64 walks the straight line from behind a stack check to the first instruction that the kernel
// emulates. Nothing before it branches, so every call comes by once. Nothing before it writes R0, the first argument.
func firstEmulatedARM64(code []byte, addr uint64) (at int, text string, ok bool) {
	for ; at+4 <= len(code); at += 4 {
		in, err := arm64asm.Decode(code[at:])
		if err != nil {
			return 0, "", false
		}
		if emulatedARM64(in) {
			return at, arm64asm.GoSyntax(in, addr+uint64(at), nil, nil), true
		}
		if !keepsR0(in) {
			return 0, "", false
		}
	}
	return 0, "", false
}

// keepsR0 knows what a function does before it does anything: it sets up its frame, stores its arguments there and
// loads fields of its g.
func keepsR0(in arm64asm.Inst) bool {
	for _, arg := range in.Args {
		mem, ok := arg.(arm64asm.MemImmediate)
		if ok && mem.Mode != arm64asm.AddrOffset && mem.Base == arm64asm.RegSP(arm64asm.X0) {
			return false // it moves the base
		}
	}
	switch in.Op {
	case arm64asm.STR, arm64asm.STRB, arm64asm.STRH, arm64asm.STUR, arm64asm.STURB, arm64asm.STP:
		return true
	case arm64asm.LDR, arm64asm.LDRB, arm64asm.LDRH, arm64asm.SUB, arm64asm.ADD, arm64asm.MOV, arm64asm.MOVZ:
		switch in.Args[0] {
		case arm64asm.X0, arm64asm.W0, arm64asm.RegSP(arm64asm.X0), arm64asm.RegSP(arm64asm.W0), nil:
			return false
		}
		return true
	case arm64asm.NOP:
		return true
	}
	return false
}
