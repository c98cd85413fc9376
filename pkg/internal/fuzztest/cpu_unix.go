//go:build unix

package fuzztest

import (
	"syscall"
	"time"
)

// CPUTime is the CPU time that this process has taken.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
