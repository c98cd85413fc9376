//go:build linux

package demo

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// runD pins one P in uninterruptible sleep for hold: a goroutine touches a mapped page of the slow file, and its thread
// waits for the page with the P in hand. The other Ps work lightly, so that the picture shows what is wrong with one
// and right with the rest. In phase dcall it is a system call that touches the page: the runtime gives its P to others,
// and only the thread is stuck.
func (d *driver) runD(ctx context.Context, slow *slowFile, hold time.Duration, round int, phase string) error {
	// A garbage collection would stop the world and wait for the pinned P, and with it the whole process.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	release := context.AfterFunc(ctx, slow.release)
	defer release()
	if err := slow.arm(hold); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(time.Millisecond)
			sink.Store(work(20000))
		}
	})
	for range 15 {
		wg.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(5 * time.Millisecond)
				sink.Store(work(5000))
			}
		})
	}
	err := touch(slow.path, phase == "dcall", func(tid int) {
		d.log(event{Event: "touch", Phase: phase, Round: round, TID: tid})
	})
	<-ctx.Done()
	wg.Wait()
	return err
}

// touch maps the file and reads one byte of it, itself or through a system call that is given the byte to write; it
// returns when the page has come. before is called with the thread's id.
func touch(path string, call bool, before func(tid int)) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("can't open the slow file: %w; is its server, a child of this process, still running?", err)
	}
	defer f.Close()
	page, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("can't map the slow file: %w", err)
	}
	defer func() { _ = unix.Munmap(page) }()
	// A server that dies with the page outstanding makes the access fail with SIGBUS; that must be an error, not the
	// end of the demo.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the slow file's page never came: %v; its server has died", r)
		}
	}()
	// Without the lock the goroutine could go on in another thread than the one it names.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before(unix.Gettid())
	if !call {
		sink.Store(uint64(page[0]))
		return nil
	}
	mem, err := unix.MemfdCreate("pscope-demo", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("can't make a file in memory: %w", err)
	}
	defer func() { _ = unix.Close(mem) }()
	if _, err := unix.Write(mem, page[:1]); err != nil {
		return fmt.Errorf("the slow file's page never came: %w", err)
	}
	return nil
}
