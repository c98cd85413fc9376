package discover

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// Whatever opens or reads a file that a process chose, or its memory, may wait in the kernel for as long as somebody
// else likes: for a network file system, for FUSE, for a page fault. No signal ends that wait. So such work is done by
// workers, a few at once. One that waits for too long is given up: its place goes to another one, and the process is
// listed with that reason. It is looked at again when the worker comes back.

const (
	filesAtOnce  = 4                // workers that read files
	startsAtOnce = 16               // workers that start an observation
	fileWithin   = 5 * time.Second  // in which a call for a file must come back
	startWithin  = 60 * time.Second // in which an observation must have been started: that is work, not one call
	slowAfter    = 250 * time.Millisecond
	mostSlow     = 8 // workers that are in one call for longer than that, and for each of which another one works

	// A thread of the agent hangs for each worker that was given up, so there are not many. Of one file system, or of
	// one user's processes, there are fewer: the others are not to find all of them taken.
	mostHung         = 32
	mostHungOfDevice = 2
	mostHungOfUser   = 4
	rootUser         = 0 // to whose services the limit for a user does not apply
)

// work is what is done for one process. The finder's goroutine makes it and hears of its end.
type work struct {
	pid int32
	uid uint32
	do  func(*work) // on a goroutine of its own
	// ended is called when it has ended, gaveUp when it is given up; then back is called when it has ended after all.
	ended, gaveUp, back func()

	workers *workers
	since   atomic.Int64 // when the call began that it is in, in ns after workers.made; 0: it is in none
	mu      sync.Mutex
	at      fileAt
	givenUp bool // only the finder's goroutine touches it
}

// fileAt is a file of a process as /proc names it. Two that are equal are the same file.
type fileAt struct {
	device string // empty: not known yet
	inode  uint64 // likewise 0
	name   string // for messages
}

// workers do work, some at once, and each user's in turn. Only the finder's goroutine calls the methods, but for those
// of a work.
type workers struct {
	most   int
	within time.Duration
	made   time.Time
	done   chan *work
	ending chan struct{} // closed when nobody hears of the end of any more

	queues map[uint32][]*work // by user
	turn   []uint32           // users who have a queue, in the order of their turns
	closed bool               // nothing more is begun
	busy   map[*work]bool

	mu   sync.Mutex
	hung map[*work]bool
}

func newWorkers(most int, within time.Duration) *workers {
	return &workers{most: most, within: within, made: time.Now(), done: make(chan *work), ending: make(chan struct{}),
		queues: map[uint32][]*work{}, busy: map[*work]bool{}, hung: map[*work]bool{}}
}

// add does a work when it is its user's turn.
func (s *workers) add(w *work) {
	w.workers = s
	if len(s.queues[w.uid]) == 0 {
		s.turn = append(s.turn, w.uid)
	}
	s.queues[w.uid] = append(s.queues[w.uid], w)
	s.begin()
}

// begin begins what there are workers for.
func (s *workers) begin() {
	for !s.closed && len(s.busy) < s.most+s.slow() && len(s.turn) > 0 {
		uid := s.turn[0]
		s.turn = s.turn[1:]
		w := s.queues[uid][0]
		if s.queues[uid] = s.queues[uid][1:]; len(s.queues[uid]) > 0 {
			s.turn = append(s.turn, uid)
		} else {
			delete(s.queues, uid)
		}
		s.busy[w] = true
		go func() {
			w.do(w)
			w.since.Store(0)
			select {
			case s.done <- w:
			case <-s.ending:
			}
		}()
	}
}

// slow is how many have been in one call for long, mostSlow at most.
func (s *workers) slow() (n int) {
	now := int64(time.Since(s.made))
	for w := range s.busy {
		if since := w.since.Load(); since != 0 && time.Duration(now-since) > slowAfter {
			n++
		}
	}
	return min(n, mostSlow)
}

// finish takes in a work that came out of done.
func (s *workers) finish(w *work) {
	delete(s.busy, w)
	if w.givenUp {
		s.mu.Lock()
		delete(s.hung, w)
		s.mu.Unlock()
		w.back()
	} else {
		w.ended()
	}
	s.begin()
}

// giveUp gives up what has been in one call for too long, and begins what else there are workers for. It is called now
// and then while there is work.
func (s *workers) giveUp() {
	now := int64(time.Since(s.made))
	for w := range s.busy {
		since := w.since.Load()
		if since == 0 || time.Duration(now-since) < s.within {
			continue
		}
		s.mu.Lock()
		room := len(s.hung) < mostHung
		if room {
			s.hung[w] = true
		}
		s.mu.Unlock()
		if !room {
			return // its place is not given to another one: the agent has lost enough threads
		}
		delete(s.busy, w)
		w.givenUp = true
		w.gaveUp()
	}
	s.begin()
}

// waits is how many works have not ended, those that were given up left out.
func (s *workers) waits() (n int) {
	for _, q := range s.queues {
		n += len(q)
	}
	return n + len(s.busy)
}

// end makes nobody wait for what is still being done, and gives how much that is.
func (s *workers) end(within time.Duration) (left int) {
	s.closed = true
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for len(s.busy) > 0 {
		select {
		case w := <-s.done:
			s.finish(w)
		case <-timeout.C:
			close(s.ending)
			return len(s.busy) + len(s.hung)
		}
	}
	close(s.ending)
	return len(s.hung)
}

// enter says that a call begins that may not come back, for a file or for nothing in particular. The error says that it
// must not be made.
func (w *work) enter(at fileAt) error {
	if err := w.workers.refuses(w, at); err != nil {
		return err
	}
	w.begins(at)
	return nil
}

// begins notes that a call for a file begins.
func (w *work) begins(at fileAt) {
	w.mu.Lock()
	w.at = at
	w.mu.Unlock()
	w.since.Store(max(1, int64(time.Since(w.workers.made))))
}

// leave says that the call has come back.
func (w *work) leave() { w.since.Store(0) }

// close closes a file. That may not come back either: close(2) waits until a FUSE server has taken it in.
func (w *work) close(file io.Closer, at fileAt) {
	w.begins(at)
	_ = file.Close() // it was only read
	w.leave()
}

// file is the one that it is at, or was last.
func (w *work) file() fileAt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

// refuses says why a work may not touch a file: because it, or too many others, did not answer.
func (s *workers) refuses(w *work, at fileAt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ofDevice, ofUser := 0, 0
	for h := range s.hung {
		file := h.file()
		if at.device == "" && file.device == "" && h.pid == w.pid {
			return noAnswerFrom(h)
		}
		if at.device != "" && file.device == at.device {
			if file.inode == at.inode {
				return noAnswer(s.within)
			}
			ofDevice++
		}
		if h.uid == w.uid {
			ofUser++
		}
	}
	var others string
	switch {
	case ofDevice >= mostHungOfDevice:
		others = "other files of its file system"
	case ofUser >= mostHungOfUser && w.uid != rootUser:
		others = fmt.Sprintf("files of other processes of user %d", w.uid)
	case len(s.hung) >= mostHung:
		others = fmt.Sprintf("files of %d other processes", len(s.hung))
	default:
		return nil
	}
	return othersError{refusal.New(refusal.NoAnswer, nil, "its file was not opened, because %s did not "+
		"answer within %v: whether it is Go is not known, and it is looked at again when they do", others, s.within)}
}

// othersError says that a file may not be touched because of others that did not answer.
type othersError struct{ error }

func (e othersError) Unwrap() error { return e.error }

// becauseOfOthers says whether an error does.
func becauseOfOthers(err error) bool { return errors.As(err, new(othersError)) }

// noAnswer says that a file did not answer.
func noAnswer(within time.Duration) error {
	return refusal.New(refusal.NoAnswer, nil, "its file did not answer within %v: whether it is Go is not "+
		"known, and it is looked at again when the file system answers", within)
}

// noAnswerFrom says what did not answer a worker that was given up.
func noAnswerFrom(w *work) error {
	if w.file().device == "" {
		return refusal.New(refusal.NoAnswer, nil, "its memory did not answer within %v: part of it lies in a "+
			"file whose file system does not answer; it is looked at again when that does", w.workers.within)
	}
	return noAnswer(w.workers.within)
}
