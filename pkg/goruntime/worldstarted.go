package goruntime

import (
	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"
)

// WorldStarted is the name of the probe site at the end of a stop: the call of wakep in startTheWorldWithSema. It is the last thing that
// function does, right after the runtime has stopped its own clock for the stop (runtime/proc.go); between the function's entry and there
// the other Ms are woken, which can take as long as the stop itself. A call is emulated by the kernel like a push.
const WorldStarted = "startTheWorldWithSema.wakep"

// maxStartTheWorld bounds how much of startTheWorldWithSema is decoded; it is about 1 KiB long.
const maxStartTheWorld = 8 << 10

// worldStarted finds the site in the function's code. ok is false unless there is exactly one such call.
func worldStarted(im *image, start, wakep symbol) (site ProbeSite, ok bool) {
	size := min(start.size, maxStartTheWorld)
	if size == 0 || wakep.value == 0 {
		return ProbeSite{}, false
	}
	code := make([]byte, size)
	if err := im.readFullVA(start.value, code); err != nil {
		return ProbeSite{}, false
	}
	calls := callsAMD64
	if im.arch == "arm64" {
		calls = callsARM64
	}
	at := calls(code, start.value, wakep.value)
	if len(at) != 1 {
		return ProbeSite{}, false
	}
	site, ok = newProbeSite(im, start.value+uint64(at[0]))
	site.Func, site.Emulated, site.Insn = WorldStarted, true, "CALL runtime.wakep(SB)"
	return site, ok
}

// callsAMD64 lists where code, which is at base, calls callee. It ends at the first byte that is no instruction.
func callsAMD64(code []byte, base, callee uint64) (at []int) {
	for i := 0; i < len(code); {
		in, err := x86asm.Decode(code[i:], 64)
		if err != nil {
			break
		}
		if rel, ok := in.Args[0].(x86asm.Rel); ok && in.Op == x86asm.CALL && base+uint64(i+in.Len)+uint64(int64(rel)) == callee {
			at = append(at, i)
		}
		i += in.Len
	}
	return at
}

// callsARM64 is callsAMD64 for arm64, where data between instructions is stepped over.
func callsARM64(code []byte, base, callee uint64) (at []int) {
	for i := 0; i+4 <= len(code); i += 4 {
		in, err := arm64asm.Decode(code[i:])
		if err != nil {
			continue
		}
		if rel, ok := in.Args[0].(arm64asm.PCRel); ok && in.Op == arm64asm.BL && base+uint64(i)+uint64(int64(rel)) == callee {
			at = append(at, i)
		}
	}
	return at
}
