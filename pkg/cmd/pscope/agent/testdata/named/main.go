// Command named gives its threads the name in its first argument, as any program may, and works until its input closes.
package main

import (
	"io"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	name := append([]byte(os.Args[1]), 0)
	for range 4 {
		go func() {
			runtime.LockOSThread()
			if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0); err != nil {
				panic(err)
			}
			for {
				for begun := time.Now(); time.Since(begun) < 2*time.Millisecond; {
				}
				time.Sleep(2 * time.Millisecond)
			}
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}
