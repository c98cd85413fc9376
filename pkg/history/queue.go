//go:build linux

package history

import (
	"slices"
	"sync"

	"github.com/p-scope/p-scope/pkg/metrics"
)

// What waits for the child is bounded: a restart takes a second or two, a start with a long log some ten.
const (
	queueSeconds = 30
	queueBytes   = 16 << 20
)

// queue holds the seconds that the child has not acknowledged, so that a new child gets them again.
type queue struct {
	mu      sync.Mutex
	seq     uint64
	waiting []second
	bytes   int
	dropped uint64
	more    chan struct{} // has room for one
	closed  bool
}

func newQueue() *queue { return &queue{more: make(chan struct{}, 1)} }

// put adds a second and gives up the oldest ones where there is no room.
func (q *queue) put(due int64, snap metrics.Snapshot) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seq++
	q.waiting = append(q.waiting, second{q.seq, due, snap})
	q.bytes += sizeOf(&snap)
	for len(q.waiting) > 1 && (len(q.waiting) > queueSeconds || q.bytes > queueBytes) {
		q.drop()
		q.dropped++
	}
	q.wake()
}

func (q *queue) drop() {
	q.bytes -= sizeOf(&q.waiting[0].Snap)
	q.waiting[0] = second{}
	q.waiting = q.waiting[1:]
}

func (q *queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// close says that no further second comes.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake()
}

// after gives the first second behind seq; ended: there is none and there will be none.
func (q *queue) after(seq uint64) (s second, ok, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.waiting {
		if s.Seq > seq {
			return s, true, false
		}
	}
	return second{}, false, q.closed
}

// ack forgets everything up to seq.
func (q *queue) ack(seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) > 0 && q.waiting[0].Seq <= seq {
		q.drop()
	}
}

// refuse gives up a second that can't be handed over.
func (q *queue) refuse(seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.waiting {
		if q.waiting[i].Seq == seq {
			q.bytes -= sizeOf(&q.waiting[i].Snap)
			q.waiting = slices.Delete(q.waiting, i, i+1)
			q.dropped++
			return
		}
	}
}

// state gives how many seconds wait, and how many were given up.
func (q *queue) state() (waiting int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting), q.dropped
}

// sizeOf is about what a snapshot takes in memory: a view of a P is 1.4 KB.
func sizeOf(s *metrics.Snapshot) (n int) {
	for i := range s.Views {
		n += 2048 + 1536*len(s.Views[i].Ps)
	}
	return n + 512*len(s.Targets)
}
