package goruntime

import (
	"errors"
	"fmt"

	"golang.org/x/arch/arm64/arm64asm"
)

// Started is the name of the probe site at which a goroutine starts to run: early in execute, where its g still is the first argument
// (runtime/proc.go). Every start comes through there but those in which a goroutine returns from a system call with a P of its own finding.
const Started = "execute"

// StartedProbe gives that site, or says why goroutines that start can't be counted in this program. Tens of thousands come through it a second, so that one at which
// the kernel would have to step over the instruction is refused.
func (b *Binary) StartedProbe() (ProbeSite, error) {
	site, ok := b.Probe(Started)
	switch {
	case !ok:
		return ProbeSite{}, errors.New("runtime.execute is not in the program")
	case !site.Emulated:
		return ProbeSite{}, fmt.Errorf("runtime.execute has no instruction at its beginning that the kernel emulates (it has %s): a probe there would cost too much", site.Insn)
	}
	return site, nil
}

// emulatedSite replaces a site that is single-stepped by a later one of the same function that is not, if there is one.
func emulatedSite(im *image, site ProbeSite) ProbeSite {
	if site.Emulated || im.arch != "arm64" {
		return site
	}
	var buf [prologue]byte
	n, err := im.readVA(site.Addr, buf[:])
	if err != nil {
		return site
	}
	at, insn, ok := firstEmulatedARM64(buf[:n], site.Addr)
	if !ok {
		return site
	}
	later, ok := newProbeSite(im, site.Addr+uint64(at))
	if !ok {
		return site
	}
	later.Func, later.Emulated, later.Insn = site.Func, true, insn
	return later
}

// firstEmulatedARM64 walks the straight line from behind a stack check to the first instruction that the kernel emulates. Nothing before it branches, so
// that every call comes by, once; and nothing before it writes R0, the first argument.
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

// keepsR0 knows what a function does before it does anything: it sets up its frame, stores its arguments there and loads fields of its g.
func keepsR0(in arm64asm.Inst) bool {
	for _, arg := range in.Args {
		if mem, ok := arg.(arm64asm.MemImmediate); ok && mem.Mode != arm64asm.AddrOffset && mem.Base == arm64asm.RegSP(arm64asm.X0) {
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
