package goruntime

import (
	"io"

	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"
)

// ProbeSite is an instruction at which a uprobe sees a call of a runtime function with its argument registers still intact. It is an entry probe:
// a return probe replaces return addresses on the stack, which the Go runtime walks and moves.
type ProbeSite struct {
	Func       string // without package: "stopTheWorldWithSema"
	Addr       uint64 // link-time address
	FileOffset uint64 // of the instruction, as perf_event_open and uprobe_multi want it
	// Emulated says that the kernel emulates the instruction instead of executing it out of line in single-step mode, which on the machines
	// measured costs under 1 µs against 22 µs.
	Emulated bool
	Insn     string // the instruction in Go syntax
	// Ended is set at WorldStarted: there the time in ns of CLOCK_MONOTONIC at which the runtime says that the stop ended lies so many bytes from the stack
	// pointer. 0 where that was not found. The GC's mark termination says an earlier one.
	Ended uint16

	code string // what the file holds at FileOffset: the instruction and what follows
}

// codeKept is how many bytes of the program are remembered at a site; two programs that agree in them at the same offset of both are not to be
// expected.
const codeKept = 32

// in reports whether a file holds at the site what the inspected one held there.
func (s ProbeSite) in(file io.ReaderAt) bool {
	got := make([]byte, len(s.code))
	_, err := file.ReadAt(got, int64(s.FileOffset))
	return err == nil && len(got) > 0 && string(got) == s.code
}

// newProbeSite completes a site at a link-time address.
func newProbeSite(im *image, addr uint64) (ProbeSite, bool) {
	off, ok := im.fileOffset(addr)
	if !ok {
		return ProbeSite{}, false
	}
	var code [codeKept]byte
	n, err := im.readVA(addr, code[:])
	if err != nil || n == 0 {
		return ProbeSite{}, false
	}
	return ProbeSite{Addr: addr, FileOffset: off, code: string(code[:n])}, true
}

// probeFuncs are called rarely: around each GC cycle, stop of the world and GOMAXPROCS change (runtime/proc.go, runtime/mgc.go).
var probeFuncs = []string{
	"stopTheWorldWithSema", "startTheWorldWithSema", "procresize", "gcStart", "gcMarkDone", "gcMarkTermination",
}

// hotProbeFuncs are called at every scheduling step: a probe on them costs what they do (runtime/proc.go). Which of them exist depends on the Go
// version and on what its compiler inlined.
var hotProbeFuncs = []string{
	"execute", "ready", "gopark", "park_m", "goexit0", "gdestroy", "newproc1", "runqsteal", "runqgrab", "handoffp", "startm", "stopm", "injectglist",
	"entersyscallblock", "retake",
}

// findProbes fills Probes and HotProbes with the functions that exist.
func (b *Binary) findProbes(im *image, syms map[string]symbol) {
	b.Probes = probeSites(im, syms, probeFuncs)
	if site, ok := worldStarted(im, syms["runtime.startTheWorldWithSema"], syms["runtime.wakep"]); ok {
		b.Probes = append(b.Probes, site)
	}
	b.HotProbes = probeSites(im, syms, hotProbeFuncs)
	for i := range b.HotProbes {
		if b.HotProbes[i].Func == Started {
			b.HotProbes[i] = emulatedSite(im, b.HotProbes[i])
		}
	}
}

func probeSites(im *image, syms map[string]symbol, names []string) []ProbeSite {
	var sites []ProbeSite
	for _, name := range names {
		s, ok := syms["runtime."+name]
		if !ok || !im.executable(s.value) {
			continue
		}
		if site, ok := probeSite(im, s); ok {
			site.Func = name
			sites = append(sites, site)
		}
	}
	return sites
}

// Probe gives the site of one function, rare or hot.
func (b *Binary) Probe(name string) (site ProbeSite, ok bool) {
	for _, list := range [][]ProbeSite{b.Probes, b.HotProbes} {
		for _, s := range list {
			if s.Func == name {
				return s, true
			}
		}
	}
	return ProbeSite{}, false
}

// prologue is how much of a function is looked at; the longest stack check with its frame set-up is 40 bytes.
const prologue = 96

// probeSite decodes a function from its start and picks the instruction after the stack check.
func probeSite(im *image, s symbol) (ProbeSite, bool) {
	var buf [prologue]byte
	n, err := im.readVA(s.value, buf[:])
	if err != nil || n < 4 {
		return ProbeSite{}, false
	}
	code := buf[:n]
	if s.size > 0 && s.size < uint64(n) {
		code = buf[:s.size]
	}
	pick := pickAMD64
	if im.arch == "arm64" {
		pick = pickARM64
	}
	at, insn, emulated, ok := pick(code, s.value)
	if !ok {
		return ProbeSite{}, false
	}
	site, ok := newProbeSite(im, s.value+uint64(at))
	site.Emulated, site.Insn = emulated, insn
	return site, ok
}

// pickAMD64 looks for the PUSH BP that sets the frame up (Go 1.21 on: cmd/internal/obj/x86/obj6.go, preprocess). Only the stack check may come
// before it, which compares SP or a lower address in R12 with g.stackguard and writes no argument register. When the check fails the function is
// entered again, so that a probe before it would count calls twice; the PUSH BP runs once per call.
func pickAMD64(code []byte, addr uint64) (at int, text string, emulated, ok bool) {
	var first x86asm.Inst
	for at < len(code) {
		in, err := x86asm.Decode(code[at:], 64)
		if err != nil {
			break
		}
		if at == 0 {
			first = in
		}
		if in.Op == x86asm.PUSH && in.Args[0] == x86asm.RBP {
			return at, x86asm.GoSyntax(in, addr+uint64(at), nil), true, true
		}
		if !stackCheckAMD64(in) {
			break
		}
		at += in.Len
	}
	if first.Len == 0 {
		return 0, "", false, false
	}
	return 0, x86asm.GoSyntax(first, addr, nil), emulatedAMD64(first), true
}

// stackCheckAMD64 reports whether an instruction can belong to the stack check (stacksplit in cmd/internal/obj/x86/obj6.go).
func stackCheckAMD64(in x86asm.Inst) bool {
	switch in.Op {
	case x86asm.CMP, x86asm.JBE, x86asm.JB, x86asm.NOP:
		return true
	case x86asm.LEA, x86asm.MOV, x86asm.SUB:
		// Frames above a page size compute SP minus frame in R12 first.
		return in.Args[0] == x86asm.R12
	}
	return false
}

// emulatedAMD64 knows what arch/x86/kernel/uprobes.c emulates on all kernels since 4.20: pushes of registers, jumps and calls, and the one-byte NOP.
func emulatedAMD64(in x86asm.Inst) bool {
	switch in.Op {
	case x86asm.PUSH:
		_, reg := in.Args[0].(x86asm.Reg)
		return reg
	case x86asm.NOP:
		return in.Len == 1
	case x86asm.JMP, x86asm.CALL, x86asm.JBE, x86asm.JB, x86asm.JA, x86asm.JAE, x86asm.JE, x86asm.JNE, x86asm.JL, x86asm.JLE, x86asm.JG, x86asm.JGE:
		_, rel := in.Args[0].(x86asm.Rel)
		return rel
	}
	return false
}

// pickARM64 takes the first instruction after the stack check, which loads g.stackguard into R16, compares it with RSP or with a lower address in
// R17, and branches (stacksplit in cmd/internal/obj/arm64/obj7.go). The kernel emulates branches only, so that the site is single-stepped; the
// branch of the check itself would be emulated, but is executed twice by calls that find the stack too small.
func pickARM64(code []byte, addr uint64) (at int, text string, emulated, ok bool) {
	first, err := arm64asm.Decode(code)
	if err != nil {
		return 0, "", false, false
	}
	for at+4 <= len(code) {
		in, err := arm64asm.Decode(code[at:])
		if err != nil {
			break
		}
		if cond, branch := in.Args[0].(arm64asm.Cond); in.Op == arm64asm.B && branch {
			next, err := arm64asm.Decode(code[min(at+4, len(code)):])
			if err != nil {
				break
			}
			if cond.Value == 9 { // LS: the check is over
				at += 4
				return at, arm64asm.GoSyntax(next, addr+uint64(at), nil, nil), emulatedARM64(next), true
			}
			at += 4
			continue
		}
		if !stackCheckARM64(in) {
			break
		}
		at += 4
	}
	return 0, arm64asm.GoSyntax(first, addr, nil, nil), emulatedARM64(first), true
}

// stackCheckARM64 reports whether an instruction can belong to the stack check: it writes R16, R17 or flags only.
func stackCheckARM64(in arm64asm.Inst) bool {
	switch in.Op {
	case arm64asm.CMP, arm64asm.NOP:
		return true
	case arm64asm.LDR, arm64asm.SUB, arm64asm.SUBS, arm64asm.MOV, arm64asm.MOVZ, arm64asm.MOVK, arm64asm.ADD:
		switch in.Args[0] {
		case arm64asm.X16, arm64asm.X17, arm64asm.RegSP(arm64asm.X16), arm64asm.RegSP(arm64asm.X17):
			return true
		}
	}
	return false
}

// emulatedARM64 knows what arch/arm64/kernel/probes/decode-insn.c emulates: branches and PC-relative addresses.
func emulatedARM64(in arm64asm.Inst) bool {
	switch in.Op {
	case arm64asm.B, arm64asm.BL, arm64asm.CBZ, arm64asm.CBNZ, arm64asm.TBZ, arm64asm.TBNZ, arm64asm.BR, arm64asm.BLR, arm64asm.RET, arm64asm.ADR,
		arm64asm.ADRP:
		return true
	}
	return false
}
