package memory

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BenchmarkRead compares a guarded read with the system call alone.
func BenchmarkRead(b *testing.B) {
	var from, to [64]byte
	local := []unix.Iovec{{Base: &to[0]}}
	local[0].SetLen(len(to))
	remote := []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&from)), Len: len(from)}}
	for name, read := range map[string]func() (int, error){
		"guarded": func() (int, error) { return Read(os.Getpid(), local, remote) },
		"alone":   func() (int, error) { return unix.ProcessVMReadv(os.Getpid(), local, remote, 0) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if n, err := read(); n != len(to) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
