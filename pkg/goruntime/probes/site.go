package probes

import (
	"io"

	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
)

// The functions that are probed besides [WorldStarted] and [Started] (runtime/proc.go): around each stop of the world.
const (
	StopWorld  = "stopTheWorldWithSema"
	StartWorld = "startTheWorldWithSema"
)

// funcs are the functions at the beginning of which probes go.
var funcs = []string{StopWorld, StartWorld, Started}

// Site is an instruction at which a uprobe sees a call of a runtime function with its argument registers still intact.
type Site struct {
	Func       string // without package: "stopTheWorldWithSema"
	Addr       uint64 // link-time address
	FileOffset uint64 // of the instruction, as perf_event_open and uprobe_multi want it
	// Emulated says that the kernel emulates the instruction. Otherwise it executes the instruction out of line, in
	// single-step mode, which takes many times as long.
	Emulated bool
	Insn     string // the instruction in Go syntax
	// Ended is set at WorldStarted. So many bytes from the stack pointer lies the time at which the runtime says that
	// the stop ended, in ns of CLOCK_MONOTONIC; 0 if that was not found. GC mark termination gives an earlier time.
	Ended uint16

	code string // what the file holds at FileOffset: the instruction and what follows
}

// codeKept is how many bytes of the program are kept of a site. Two programs hardly have the same bytes at the same
// offset.
const codeKept = 32

// In reports whether a file holds at the site what the inspected file held there.
func (s Site) In(file io.ReaderAt) bool {
	got := make([]byte, len(s.code))
	_, err := file.ReadAt(got, int64(s.FileOffset))
	return err == nil && len(got) > 0 && string(got) == s.code
}

// newSite completes a site at a link-time address.
func newSite(f *binary.File, addr uint64) (Site, bool) {
	off, ok := f.FileOffset(addr)
	if !ok {
		return Site{}, false
	}
	var code [codeKept]byte
	n, err := f.Read(addr, code[:])
	if err != nil || n == 0 {
		return Site{}, false
	}
	return Site{Addr: addr, FileOffset: off, code: string(code[:n])}, true
}

// Symbols lists the symbols that [Find] needs, by their full names.
func Symbols() []string {
	names := []string{"runtime.wakep"} // see WorldStarted
	for _, name := range funcs {
		names = append(names, "runtime."+name)
	}
	return names
}

// Find gives the sites of the functions that the program has. syms has what [Symbols] lists.
func Find(f *binary.File, syms map[string]binary.Symbol) []Site {
	var sites []Site
	for _, name := range funcs {
		s, ok := syms["runtime."+name]
		if !ok || !f.Executable(s.Addr) {
			continue
		}
		site, ok := entrySite(f, s)
		if !ok {
			continue
		}
		site.Func = name
		if name == Started {
			site = emulatedSite(f, site)
		}
		sites = append(sites, site)
	}
	if site, ok := worldStarted(f, syms["runtime."+StartWorld], syms["runtime.wakep"]); ok {
		sites = append(sites, site)
	}
	return sites
}

// prologue is how much of a function is looked at; the longest stack check with its frame set-up is 40 bytes.
const prologue = 96

// entrySite decodes a function from its start and picks the instruction after the stack check.
func entrySite(f *binary.File, s binary.Symbol) (Site, bool) {
	var buf [prologue]byte
	n, err := f.Read(s.Addr, buf[:])
	if err != nil || n < 4 {
		return Site{}, false
	}
	code := buf[:n]
	if s.Size > 0 && s.Size < uint64(n) {
		code = buf[:s.Size]
	}
	pick := pickAMD64
	if f.Arch == "arm64" {
		pick = pickARM64
	}
	at, insn, emulated, ok := pick(code, s.Addr)
	if !ok {
		return Site{}, false
	}
	site, ok := newSite(f, s.Addr+uint64(at))
	site.Emulated, site.Insn = emulated, insn
	return site, ok
}

// pickAMD64 looks for the PUSH BP that sets the frame up (Go 1.21 on: cmd/internal/obj/x86/obj6.go, preprocess). Only
// the stack check may come before it. The check compares SP, or a lower address in R12, with g.stackguard and writes no
// argument register. When it fails, the function is entered again: a probe before it would count such calls twice. The
// PUSH BP runs once per call.
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

// stackCheckAMD64 reports whether an instruction can belong to the stack check (stacksplit in
// cmd/internal/obj/x86/obj6.go).
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

// emulatedAMD64 knows what arch/x86/kernel/uprobes.c emulates on all kernels since 4.20: pushes of registers, jumps and
// calls, and the one-byte NOP.
func emulatedAMD64(in x86asm.Inst) bool {
	switch in.Op {
	case x86asm.PUSH:
		_, reg := in.Args[0].(x86asm.Reg)
		return reg
	case x86asm.NOP:
		return in.Len == 1
	case x86asm.JMP, x86asm.CALL, x86asm.JBE, x86asm.JB, x86asm.JA, x86asm.JAE, x86asm.JE, x86asm.JNE, x86asm.JL,
		x86asm.JLE, x86asm.JG, x86asm.JGE:
		_, rel := in.Args[0].(x86asm.Rel)
		return rel
	}
	return false
}

// pickARM64 takes the first instruction after the stack check. The check loads g.stackguard into R16, compares it with
// RSP or with a lower address in R17, and branches (stacksplit in cmd/internal/obj/arm64/obj7.go). The kernel emulates
// branches only, so it single-steps the site. It would emulate the branch of the check itself, but calls that find the
// stack too small execute that twice.
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
	case arm64asm.B, arm64asm.BL, arm64asm.CBZ, arm64asm.CBNZ, arm64asm.TBZ, arm64asm.TBNZ, arm64asm.BR, arm64asm.BLR,
		arm64asm.RET, arm64asm.ADR, arm64asm.ADRP:
		return true
	}
	return false
}
