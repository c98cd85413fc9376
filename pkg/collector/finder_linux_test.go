package collector

import (
	"context"
	"sync"
	"testing"
	"time"
)

// emptyFinder is that of a collector on a host without processes.
func emptyFinder(t *testing.T) *finder {
	t.Helper()
	return newCollect(Options{Mode: ModeSnapshot, ProcRoot: t.TempDir()}).found
}

// hangs is a work for a process whose file does not answer until the test has ended.
func hangs(t *testing.T, pid int32) *work {
	t.Helper()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	return &work{pid: pid, do: func(w *work) {
		if w.enter(fileAt{device: "08:01", inode: uint64(pid)}) == nil {
			<-release
			w.leave()
		}
	}}
}

// TestWorkersAreGivenUpWhileMuchIsAsked: a worker that hangs is given up also where programs are executed all the time.
func TestWorkersAreGivenUpWhileMuchIsAsked(t *testing.T) {
	f := emptyFinder(t)
	f.reads = newWorkers(1, time.Millisecond)
	gaveUp := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	f.work(ctx, f.reads, hangs(t, 1), itsLibraries, procID{}, func() {}, func() { close(gaveUp) })
	var running sync.WaitGroup
	running.Go(func() { f.run(ctx) })
	defer running.Wait()
	defer cancel()
	for timeout := time.After(20 * time.Second); ; {
		select {
		case f.asked <- question{pid: 2}:
			time.Sleep(time.Millisecond)
		case <-gaveUp:
			return
		case <-timeout:
			t.Fatal("it is not given up")
		}
	}
}
