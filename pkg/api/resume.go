package api

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// A stream of Watch can be continued for a while after it broke off, since browsers and proxies cut long streams. Only
// cursors are kept, never messages: what they point to is in the ring.
const (
	resumeFor      = time.Minute
	resumeStreams  = 64      // streams remembered
	resumeMessages = 256     // last messages of each: seconds may pass before a broken connection is noticed
	resumeBytes    = 1 << 20 // and at most about this much memory for them
)

// resumes remembers what the latest streams have sent.
type resumes struct {
	mu   sync.Mutex
	logs []*resumeLog // oldest first
}

// resumeLog is the memory of one stream.
type resumeLog struct {
	base uint64 // sequence numbers of the stream are above it

	mu     sync.Mutex
	points []resumePoint
	size   int       // of all points
	left   time.Time // zero while the stream lives
	writer int       // which of the streams that continued each other may write: the last one
}

// resumePoint is where every target stood after a message.
type resumePoint struct {
	seq     uint64
	size    int // bytes, roughly
	targets map[pstate.Key]resumeTarget
}

type resumeTarget struct {
	process string
	cursor  timeline.Cursor
	ps      map[int32]watchedP
}

// begin gives a new stream its log. Sequence numbers begin at a random multiple of 2^32, so that one number names one
// message of one stream, and stay below 2^53, which a JavaScript number holds exactly.
func (r *resumes) begin() *resumeLog {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.logs = slices.DeleteFunc(r.logs, func(l *resumeLog) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return !l.left.IsZero() && now.Sub(l.left) > resumeFor
	})
	if len(r.logs) >= resumeStreams {
		r.logs = slices.Delete(r.logs, 0, len(r.logs)-resumeStreams+1)
	}
	l := &resumeLog{base: (rand.Uint64N(1<<21-1) + 1) << 32}
	r.logs = append(r.logs, l)
	return l
}

// take finds the stream that sent seq and gives its log and where its targets stood then.
func (r *resumes) take(seq uint64) (l *resumeLog, writer int, targets map[pstate.Key]*watched, ok bool) {
	if seq == 0 {
		return nil, 0, nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l = range r.logs {
		if seq>>32 != l.base>>32 {
			continue
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.IndexFunc(l.points, func(p resumePoint) bool { return p.seq == seq })
		if i < 0 {
			return nil, 0, nil, false
		}
		targets = make(map[pstate.Key]*watched)
		for k, t := range l.points[i].targets {
			w := &watched{process: t.process, cursor: t.cursor, ps: make(map[int32]*watchedP, len(t.ps))}
			for id, p := range t.ps {
				p.pending = slices.Clone(p.pending)
				w.ps[id] = &p
			}
			targets[k] = w
		}
		// What was sent after seq did not arrive: those numbers are used again.
		for _, p := range l.points[i+1:] {
			l.size -= p.size
		}
		l.points = slices.Delete(l.points, i+1, len(l.points))
		l.left = time.Time{}
		l.writer++
		return l, l.writer, targets, true
	}
	return nil, 0, nil, false
}

// leave says that a stream has broken off.
func (l *resumeLog) leave(writer int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writer == writer {
		l.left = time.Now()
	}
}

// send remembers where every target stands after message seq, which comes before the message itself: its reader may
// break off and come back at once. A stream that another one has continued meanwhile no longer counts.
func (l *resumeLog) send(writer int, seq uint64, targets map[pstate.Key]*watched) {
	pt := resumePoint{seq: seq, targets: make(map[pstate.Key]resumeTarget, len(targets))}
	for k, t := range targets {
		rt := resumeTarget{process: t.process, cursor: t.cursor, ps: make(map[int32]watchedP, len(t.ps))}
		for id, p := range t.ps {
			rt.ps[id] = watchedP{last: p.last, pending: slices.Clone(p.pending), oldest: p.oldest}
		}
		pt.targets[k] = rt
		pt.size += 100 + 80*len(rt.ps)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writer != writer {
		return
	}
	l.points = append(l.points, pt)
	l.size += pt.size
	drop := 0
	for len(l.points)-drop > resumeMessages || len(l.points)-drop > 1 && l.size > resumeBytes {
		l.size -= l.points[drop].size
		drop++
	}
	l.points = slices.Delete(l.points, 0, drop)
}

// streams gives the number of streams remembered, for tests.
func (r *resumes) streams() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.logs)
}
