package goruntime

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Reading another process's memory may wait in the kernel for as long as somebody else likes: a page of it may lie in a
// file whose file system does not answer, and one of its threads may wait for such a file while it holds the lock of
// the address space (fs/fuse/file.c, fuse_vma_close, writes back under it). No signal ends that. So each read is done
// by a goroutine of its own, which is left to itself when it takes too long.

// memoryWithin is how long a read may take. A machine that swaps takes milliseconds a page.
const memoryWithin = 3 * time.Second

// Bounds of the memoryReaders that were left to themselves, each of which keeps a thread.
const (
	mostLeft = 32
	// Of the processes of one user other than root, so that the others are not to find all of them taken.
	mostLeftOfUser = 4
)

// A process whose memory did not answer is left alone for aloneFor, for twice as long each further time, at most
// aloneMost. Each try costs others up to memoryWithin.
const (
	aloneFor  = 5 * time.Second
	aloneMost = 5 * time.Minute
)

// hang is what is known of a process whose memory did not answer.
type hang struct {
	uid   uint32
	left  int       // memoryReaders that still wait
	times int       // how often it did not answer
	until time.Time // for how long it is left alone
}

// memoryReader does one read after another.
type memoryReader struct {
	ask   chan struct{}
	done  chan struct{}
	timer *time.Timer
	left  bool // nobody waits for it any more; guarded by memoryReaders.mu

	pid int
	// local are copies. Where the reader is left they are all that keeps the garbage collector from giving the buffers,
	// which the kernel may yet write to, to somebody else.
	local  []unix.Iovec
	remote []unix.RemoteIovec
	n      int
	err    error
}

// memoryReaders are those that have nothing to do, and those that were left, by the process they read.
var memoryReaders struct {
	mu   sync.Mutex
	free []*memoryReader
	left map[int]*hang
	n    int // memoryReaders that were left
}

// readMemory is process_vm_readv(2). If it does not come back in time the error is ErrNoAnswer; then the buffers must
// not be used again, because they may yet be written to.
func readMemory(pid int, local []unix.Iovec, remote []unix.RemoteIovec) (int, error) {
	r, err := takeReader(pid)
	if err != nil {
		return 0, err
	}
	r.pid, r.local, r.remote = pid, append(r.local[:0], local...), remote
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
			r.left = true
			noteHang(pid, time.Now())
			memoryReaders.mu.Unlock()
			return 0, refuse(ReasonNoAnswer, nil, "the memory of process %d did not answer within %v: "+
				"part of it lies in a file whose file system does not answer; it is looked at again when that does", pid, memoryWithin)
		}
	}
	r.timer.Stop()
	n, err := r.n, r.err
	clear(r.local)
	r.remote = nil
	memoryReaders.mu.Lock()
	memoryReaders.free = append(memoryReaders.free, r)
	memoryReaders.mu.Unlock()
	return n, err
}

// noteHang notes that a process's memory did not answer. memoryReaders.mu is held.
func noteHang(pid int, now time.Time) {
	for other, h := range memoryReaders.left {
		if h.left == 0 && now.Sub(h.until) > aloneMost {
			delete(memoryReaders.left, other) // it has answered for long, or ended
		}
	}
	h := memoryReaders.left[pid]
	if h == nil {
		h = &hang{uid: userOf(pid)}
		memoryReaders.left[pid] = h
	}
	h.left++
	memoryReaders.n++
	h.until = now.Add(min(aloneFor<<min(h.times, 10), aloneMost))
	h.times++
}

// mayRead says why a process's memory is not read now; nil: it is. memoryReaders.mu is held.
func mayRead(pid int, now time.Time) error {
	if len(memoryReaders.left) == 0 {
		return nil
	}
	if h := memoryReaders.left[pid]; h != nil {
		if h.left > 0 {
			return refuse(ReasonNoAnswer, nil, "the memory of process %d was not read, because an earlier read has not come "+
				"back: its file system does not answer", pid)
		}
		if wait := h.until.Sub(now); wait > 0 {
			return refuse(ReasonNoAnswer, nil, "the memory of process %d did not answer %d times: it is left alone for %v",
				pid, h.times, wait.Round(time.Second))
		}
	}
	if memoryReaders.n == 0 {
		return nil
	}
	if uid := userOf(pid); uid != 0 {
		n := 0
		for _, h := range memoryReaders.left {
			if h.uid == uid {
				n += h.left
			}
		}
		if n >= mostLeftOfUser {
			return refuse(ReasonNoAnswer, nil, "the memory of process %d was not read, because that of %d processes of "+
				"the same user does not answer", pid, n)
		}
	}
	if memoryReaders.n >= mostLeft {
		// It is not this process that hangs: it is read the next time.
		return refuse(ReasonTorn, nil,
			"the memory of process %d was not read, because that of too many others does not answer", pid)
	}
	return nil
}

// userOf is the real user of a process; root's if it is not known.
func userOf(pid int) uint32 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return RealUser(b)
}

// RealUser gives the real user of a process by the contents of its /proc/<pid>/status (proc_pid_status(5)); root's, 0,
// if that does not have it. A process can choose its effective user, and whose its folder in /proc is, but not this
// one.
func RealUser(status []byte) uint32 {
	for line := range strings.Lines(string(status)) {
		if numbers, ok := strings.CutPrefix(line, "Uid:"); ok {
			if f := strings.Fields(numbers); len(f) > 0 {
				if uid, err := strconv.ParseUint(f[0], 10, 32); err == nil {
					return uint32(uid)
				}
			}
		}
	}
	return 0
}

// takeReader gives one that has nothing to do, if the process's memory may be read.
func takeReader(pid int) (*memoryReader, error) {
	memoryReaders.mu.Lock()
	defer memoryReaders.mu.Unlock()
	if err := mayRead(pid, time.Now()); err != nil {
		return nil, err
	}
	if last := len(memoryReaders.free) - 1; last >= 0 {
		r := memoryReaders.free[last]
		memoryReaders.free = memoryReaders.free[:last]
		return r, nil
	}
	if memoryReaders.left == nil {
		memoryReaders.left = map[int]*hang{}
	}
	r := &memoryReader{ask: make(chan struct{}), done: make(chan struct{}, 1), timer: time.NewTimer(memoryWithin)}
	go r.run()
	return r, nil
}

func (r *memoryReader) run() {
	for range r.ask {
		r.n, r.err = unix.ProcessVMReadv(r.pid, r.local, r.remote, 0)
		memoryReaders.mu.Lock()
		if r.left {
			memoryReaders.left[r.pid].left--
			memoryReaders.n--
			memoryReaders.mu.Unlock()
			return
		}
		r.done <- struct{}{}
		memoryReaders.mu.Unlock()
	}
}
