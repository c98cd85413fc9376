package goruntime

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Reading another process's memory may wait in the kernel for as long as somebody else likes: a page of it may lie in a
// file whose file system does not answer, and one of its threads may wait for such a file while it holds the lock of
// the address space (fs/fuse/file.c, fuse_vma_close, writes back under it). No signal ends that. So each read is done by
// a goroutine of its own, which is left to itself when it takes too long.

// memoryWithin is how long a read may take. A machine that swaps takes milliseconds a page.
const memoryWithin = 3 * time.Second

// mostLeft bounds the memoryReaders that were left to themselves, each of which keeps a thread.
const mostLeft = 32

// memoryReader does one read after another.
type memoryReader struct {
	ask   chan struct{}
	done  chan struct{}
	timer *time.Timer
	left  atomic.Bool // nobody waits for it any more

	pid    int
	local  []unix.Iovec
	remote []unix.RemoteIovec
	n      int
	err    error
}

// memoryReaders are those that have nothing to do, and those that were left, by the process they read.
var memoryReaders struct {
	mu   sync.Mutex
	free []*memoryReader
	left map[int]int
	n    atomic.Int64 // of those left
}

// readMemory is process_vm_readv(2). If it does not come back in time the error is ErrNoAnswer; then the buffers must
// not be used again, because they may yet be written to.
func readMemory(pid int, local []unix.Iovec, remote []unix.RemoteIovec) (int, error) {
	r, err := takeReader(pid)
	if err != nil {
		return 0, err
	}
	r.pid, r.local, r.remote = pid, local, remote
	r.timer.Reset(memoryWithin)
	r.ask <- struct{}{}
	select {
	case <-r.done:
	case <-r.timer.C:
		memoryReaders.mu.Lock()
		select {
		case <-r.done: // just in time
			memoryReaders.mu.Unlock()
		default:
			r.left.Store(true)
			memoryReaders.left[pid]++
			memoryReaders.n.Add(1)
			memoryReaders.mu.Unlock()
			return 0, refuse(ReasonNoAnswer, nil, "the memory of process %d did not answer within %v: part of it lies in a file "+
				"whose file system does not answer; it is looked at again when that does", pid, memoryWithin)
		}
	}
	r.timer.Stop()
	n, err := r.n, r.err
	r.local, r.remote = nil, nil
	memoryReaders.mu.Lock()
	memoryReaders.free = append(memoryReaders.free, r)
	memoryReaders.mu.Unlock()
	return n, err
}

// takeReader gives one that has nothing to do. None is given where one waits for the same process, or too many wait.
func takeReader(pid int) (*memoryReader, error) {
	memoryReaders.mu.Lock()
	defer memoryReaders.mu.Unlock()
	if n := memoryReaders.n.Load(); n > 0 && (memoryReaders.left[pid] > 0 || n >= mostLeft) {
		return nil, refuse(ReasonNoAnswer, nil, "the memory of process %d was not read, because an earlier read has not come "+
			"back: its file system does not answer", pid)
	}
	if last := len(memoryReaders.free) - 1; last >= 0 {
		r := memoryReaders.free[last]
		memoryReaders.free = memoryReaders.free[:last]
		return r, nil
	}
	if memoryReaders.left == nil {
		memoryReaders.left = map[int]int{}
	}
	r := &memoryReader{ask: make(chan struct{}), done: make(chan struct{}, 1), timer: time.NewTimer(memoryWithin)}
	go r.run()
	return r, nil
}

func (r *memoryReader) run() {
	for range r.ask {
		r.n, r.err = unix.ProcessVMReadv(r.pid, r.local, r.remote, 0)
		memoryReaders.mu.Lock()
		if r.left.Load() {
			if memoryReaders.left[r.pid]--; memoryReaders.left[r.pid] <= 0 {
				delete(memoryReaders.left, r.pid)
			}
			memoryReaders.n.Add(-1)
			memoryReaders.mu.Unlock()
			return
		}
		r.done <- struct{}{}
		memoryReaders.mu.Unlock()
	}
}
