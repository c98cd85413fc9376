package memory

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// timeout is how long a read may take. A machine that swaps takes milliseconds a page.
const timeout = 3 * time.Second

// Bounds of the readers that are stuck, each of which keeps a thread.
const (
	maxStuck = 32
	// of the processes of one user other than root, so that one user does not take all of them from the others
	maxStuckOfUser = 4
)

// A process whose memory did not answer is not read for backOff, for twice as long each further time, at most for
// maxBackOff. Each try costs others up to timeout.
const (
	backOff    = 5 * time.Second
	maxBackOff = 5 * time.Minute
)

// hang is what is known of a process whose memory did not answer.
type hang struct {
	uid   uint32
	stuck int       // readers that still wait for it
	times int       // how often it did not answer
	until time.Time // not read until then
}

// reader does one read after another.
type reader struct {
	ask   chan struct{}
	done  chan struct{}
	timer *time.Timer
	stuck bool // nobody waits for it any more; guarded by readers.mu

	pid int
	// local are copies. The kernel may yet write to the buffers of a reader that is stuck. Then the copies are all that
	// keeps the garbage collector from giving the buffers to somebody else.
	local  []unix.Iovec
	remote []unix.RemoteIovec
	n      int
	err    error
}

// readers are the readers that have nothing to do, and what is known of processes that did not answer, by pid.
var readers struct {
	mu    sync.Mutex
	free  []*reader
	hangs map[int]*hang
	stuck int // readers that are stuck
}

// Read is process_vm_readv(2). If it does not come back in time, the error is [refusal.ErrNoAnswer]. The buffers must
// not be used again then, because the kernel may yet write to them.
func Read(pid int, local []unix.Iovec, remote []unix.RemoteIovec) (int, error) {
	r, err := takeReader(pid)
	if err != nil {
		return 0, err
	}
	r.pid, r.local, r.remote = pid, append(r.local[:0], local...), remote
	r.timer.Reset(timeout)
	r.ask <- struct{}{}
	select {
	case <-r.done:
	case <-r.timer.C:
		readers.mu.Lock()
		select {
		case <-r.done: // just in time
			readers.mu.Unlock()
		default:
			r.stuck = true
			noteHang(pid, time.Now())
			readers.mu.Unlock()
			return 0, refusal.New(refusal.NoAnswer, nil, "the memory of process %d did not answer within %v: "+
				"part of it lies in a file whose file system does not answer; it is looked at again when that does",
				pid, timeout)
		}
	}
	r.timer.Stop()
	n, err := r.n, r.err
	clear(r.local)
	r.remote = nil
	readers.mu.Lock()
	readers.free = append(readers.free, r)
	readers.mu.Unlock()
	return n, err
}

// noteHang notes that a process's memory did not answer. readers.mu is held.
func noteHang(pid int, now time.Time) {
	for other, h := range readers.hangs {
		if h.stuck == 0 && now.Sub(h.until) > maxBackOff {
			delete(readers.hangs, other) // it has answered for a long time, or has ended
		}
	}
	h := readers.hangs[pid]
	if h == nil {
		h = &hang{uid: userOf(pid)}
		readers.hangs[pid] = h
	}
	h.stuck++
	readers.stuck++
	h.until = now.Add(min(backOff<<min(h.times, 10), maxBackOff))
	h.times++
}

// mayRead says why a process's memory is not read now; nil: it is. readers.mu is held.
func mayRead(pid int, now time.Time) error {
	if len(readers.hangs) == 0 {
		return nil
	}
	if h := readers.hangs[pid]; h != nil {
		if h.stuck > 0 {
			return refusal.New(refusal.NoAnswer, nil, "the memory of process %d was not read, because an earlier "+
				"read has "+
				"not come back: its file system does not answer", pid)
		}
		if wait := h.until.Sub(now); wait > 0 {
			return refusal.New(refusal.NoAnswer, nil, "the memory of process %d did not answer %d times: "+
				"it is left alone for %v", pid, h.times, wait.Round(time.Second))
		}
	}
	if readers.stuck == 0 {
		return nil
	}
	if uid := userOf(pid); uid != 0 {
		n := 0
		for _, h := range readers.hangs {
			if h.uid == uid {
				n += h.stuck
			}
		}
		if n >= maxStuckOfUser {
			return refusal.New(refusal.NoAnswer, nil, "the memory of process %d was not read, because that of %d "+
				"processes of "+
				"the same user does not answer", pid, n)
		}
	}
	if readers.stuck >= maxStuck {
		// It is not this process that hangs: it is read the next time.
		return refusal.New(refusal.Torn, nil,
			"the memory of process %d was not read, because that of too many others does not answer", pid)
	}
	return nil
}

// takeReader gives one that has nothing to do, if the process's memory may be read.
func takeReader(pid int) (*reader, error) {
	readers.mu.Lock()
	defer readers.mu.Unlock()
	if err := mayRead(pid, time.Now()); err != nil {
		return nil, err
	}
	if last := len(readers.free) - 1; last >= 0 {
		r := readers.free[last]
		readers.free = readers.free[:last]
		return r, nil
	}
	if readers.hangs == nil {
		readers.hangs = map[int]*hang{}
	}
	r := &reader{ask: make(chan struct{}), done: make(chan struct{}, 1), timer: time.NewTimer(timeout)}
	go r.run()
	return r, nil
}

func (r *reader) run() {
	for range r.ask {
		r.n, r.err = unix.ProcessVMReadv(r.pid, r.local, r.remote, 0)
		readers.mu.Lock()
		if r.stuck {
			readers.hangs[r.pid].stuck--
			readers.stuck--
			readers.mu.Unlock()
			return
		}
		r.done <- struct{}{}
		readers.mu.Unlock()
	}
}
