//go:build linux

package process

import "golang.org/x/sys/unix"

func fsBaseOf(r *unix.PtraceRegs) uint64 { return r.Fs_base }
