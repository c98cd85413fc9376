package ledger

import "golang.org/x/sys/unix"

// readMonotonic reads the clock that the kernel side goes by.
func readMonotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // can't fail with a valid clock id
	return ts.Nano()
}
