package probes

import (
	"fmt"

	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
)

// WorldStarted is the name of the probe site at the end of a stop: the call of wakep in startTheWorldWithSema. It is
// the last thing that function does, right after the runtime has stopped its own clock for the stop (runtime/proc.go);
// between the function's entry and there the other Ms are woken, which can take as long as the stop itself. A call is
// emulated by the kernel like a push.
const WorldStarted = "startTheWorldWithSema.wakep"

// StopBegun says whether startTheWorldWithSema is called with the time at which the stop began. It is its third integer
// argument then, after the time at which the stop ended and the reason (runtime/proc.go, type worldStop, since Go
// 1.22). goVersion is as runtime.Version has it.
func StopBegun(goVersion string) bool {
	v, ok := binary.ParseVersion(goVersion)
	return ok && v.Minor >= 22
}

// maxStartTheWorld bounds how much of startTheWorldWithSema is decoded; it is about 1 KiB long.
const maxStartTheWorld = 8 << 10

// worldStarted finds the site in the function's code. ok is false unless there is exactly one such call.
func worldStarted(f *binary.File, start, wakep binary.Symbol) (site Site, ok bool) {
	size := min(start.Size, maxStartTheWorld)
	if size == 0 || wakep.Addr == 0 {
		return Site{}, false
	}
	code := make([]byte, size)
	if err := f.ReadFull(start.Addr, code); err != nil {
		return Site{}, false
	}
	calls := callsAMD64
	if f.Arch == "arm64" {
		calls = callsARM64
	}
	at := calls(code, start.Addr, wakep.Addr)
	if len(at) != 1 {
		return Site{}, false
	}
	site, ok = newSite(f, start.Addr+uint64(at[0]))
	site.Func, site.Emulated, site.Insn = WorldStarted, true, "CALL runtime.wakep(SB)"
	returned := returnedAMD64
	if f.Arch == "arm64" {
		returned = returnedARM64
	}
	site.Ended = returned(code[at[0]:])
	return site, ok
}

// callsAMD64 lists where code, which is at base, calls callee. It ends at the first byte that is no instruction.
func callsAMD64(code []byte, base, callee uint64) (at []int) {
	for i := 0; i < len(code); {
		in, err := x86asm.Decode(code[i:], 64)
		if err != nil {
			break
		}
		rel, ok := in.Args[0].(x86asm.Rel)
		if ok && in.Op == x86asm.CALL && base+uint64(i+in.Len)+uint64(int64(rel)) == callee {
			at = append(at, i)
		}
		i += in.Len
	}
	return at
}

// returnedAMD64 gives where the result lies that the code returns, in bytes from the stack pointer: the function
// returns the time, and keeps it on its stack during the call with which code begins. 0: not found.
func returnedAMD64(code []byte) (at uint16) {
	for i := 0; i < len(code); {
		in, err := x86asm.Decode(code[i:], 64)
		if err != nil {
			return 0
		}
		switch to := in.Args[0].(type) {
		case x86asm.Reg:
			if to == x86asm.RAX || to == x86asm.EAX || to == x86asm.AX || to == x86asm.AL {
				at = 0
			}
			m, ok := in.Args[1].(x86asm.Mem)
			if ok && in.Op == x86asm.MOV && to == x86asm.RAX && m.Base == x86asm.RSP && m.Index == 0 {
				at = stackSlot(m.Disp)
			}
		}
		switch in.Op {
		case x86asm.CALL:
			at = 0
		case x86asm.RET:
			return at
		}
		i += in.Len
	}
	return 0
}

// returnedARM64 is returnedAMD64 for arm64.
func returnedARM64(code []byte) (at uint16) {
	for i := 0; i+4 <= len(code); i += 4 {
		in, err := arm64asm.Decode(code[i:])
		if err != nil {
			return 0
		}
		if in.Args[0] == arm64asm.X0 || in.Args[0] == arm64asm.W0 {
			at = 0
			var disp int64
			if in.Op == arm64asm.LDR && in.Args[0] == arm64asm.X0 {
				if n, _ := fmt.Sscanf(in.Args[1].String(), "[SP,#%d]", &disp); n == 1 {
					at = stackSlot(disp)
				}
			}
		}
		switch in.Op {
		case arm64asm.BL, arm64asm.BLR:
			at = 0
		case arm64asm.RET:
			return at
		}
	}
	return 0
}

// stackSlot is a displacement if it can be one within the frame.
func stackSlot(disp int64) uint16 {
	if disp <= 0 || disp > maxFrame || disp%8 != 0 {
		return 0
	}
	return uint16(disp)
}

// maxFrame bounds how large startTheWorldWithSema's frame is taken to be; it is about 100 bytes.
const maxFrame = 4096

// callsARM64 is callsAMD64 for arm64, where data between instructions is stepped over.
func callsARM64(code []byte, base, callee uint64) (at []int) {
	for i := 0; i+4 <= len(code); i += 4 {
		in, err := arm64asm.Decode(code[i:])
		if err != nil {
			continue
		}
		if rel, ok := in.Args[0].(arm64asm.PCRel); ok && in.Op == arm64asm.BL && base+uint64(i)+
			uint64(int64(rel)) == callee {
			at = append(at, i)
		}
	}
	return at
}
