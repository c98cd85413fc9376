//go:build linux

package process

import "golang.org/x/sys/unix"

func fsBaseOf(*unix.PtraceRegs) uint64 { return 0 } // not among the general registers, and not asked for
