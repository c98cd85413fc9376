//go:build linux

package goruntime

import "golang.org/x/sys/unix"

func fsBaseOf(r *unix.PtraceRegs) uint64 { return r.Fs_base }
