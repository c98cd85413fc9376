package probes

import "runtime"

// EmulatedEntry finds, in the code of a function of this program that begins at addr, the instruction at which a probe
// sees every call once and that the kernel emulates. ok is false if there is none.
func EmulatedEntry(code []byte, addr uint64) (at int, ok bool) {
	if runtime.GOARCH == "arm64" {
		at, _, emulated, ok := pickARM64(code, addr)
		if ok && !emulated {
			var after int
			after, _, ok = firstEmulatedARM64(code[at:], addr+uint64(at))
			at += after
		}
		return at, ok
	}
	at, _, emulated, ok := pickAMD64(code, addr)
	return at, ok && emulated
}
