package collector

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// The observation of processes is started aside, several at once: a process whose runtime has not started yet, or whose
// memory takes long to read, holds up no other.

const (
	startsAtOnce  = 16 // processes whose observation is being started at the same time
	settleRetries = 8  // a Go process that has just started has no Ps yet
)

// starts are the observations being started. Only the finder's goroutine touches the maps.
type starts struct {
	inTurn bool           // one after the other: Examine waits for each
	going  map[int32]bool // by pid
	again  map[int32]bool // likewise: to be looked at once more when that has ended
	room   chan struct{}  // an entry for each that is at work
	done   chan beginning
	wg     sync.WaitGroup
}

func newStarts() starts {
	return starts{
		going: map[int32]bool{},
		again: map[int32]bool{},
		room:  make(chan struct{}, startsAtOnce),
		done:  make(chan beginning),
	}
}

// beginning is one of them, and what became of it.
type beginning struct {
	target pstate.Target
	bin    *goruntime.Binary
	id     procID
	tries  int
	pauses uint64 // of the agent, before it began

	observed *observed
	changed  bool // it executes another program by now
	err      error
}

// start starts the observation of a target and returns at once, unless somebody waits for every process.
func (f *finder) start(ctx context.Context, t pstate.Target, bin *goruntime.Binary) {
	s := beginning{target: t, bin: bin, id: f.known[t.PID], tries: settleRetries, pauses: f.c.heart.pauses.Load()}
	if f.starting[t.PID] == s.id {
		s.tries = 1
	}
	delete(f.starting, t.PID)
	if f.starts.inTurn {
		f.c.begin(ctx, &s)
		f.started(s)
		return
	}
	f.starts.going[t.PID] = true
	f.starts.wg.Go(func() {
		f.starts.room <- struct{}{}
		f.c.begin(ctx, &s)
		<-f.starts.room
		f.starts.done <- s
	})
}

// begin observes a target. A process that has only just been started has no Ps yet, so what does not fit is tried again
// for a moment.
func (c *collect) begin(ctx context.Context, s *beginning) {
	for try := range s.tries {
		if ctx.Err() != nil {
			s.err = ctx.Err()
			return
		}
		s.observed, s.err = c.observe(s.target, s.bin, nil)
		if s.err == nil || errors.Is(s.err, goruntime.ErrExited) || errors.Is(s.err, goruntime.ErrNoPrivilege) ||
			errors.Is(s.err, errRoom) {
			return
		}
		if info, err := os.Stat(c.o.procPath(s.target.PID, "exe")); err == nil && identify(info) != s.id.exe {
			s.changed = true
			return
		}
		if try+1 < s.tries {
			sleep(ctx, time.Duration(1<<try)*2*time.Millisecond)
		}
	}
}

// started lists a target whose observation has been started, or says why it has not.
func (f *finder) started(s beginning) {
	t, c := s.target, f.c
	delete(f.starts.going, t.PID)
	if f.known[t.PID] != s.id {
		c.discard(s.observed) // another process, or it has ended
		return
	}
	if !f.wanted(&t) { // the choice has changed since
		c.discard(s.observed)
		return
	}
	switch {
	case s.changed:
		delete(f.known, t.PID)
	case s.err == nil:
		if !f.list(s.observed, s.pauses) {
			f.starts.again[t.PID] = true
		}
	case errors.Is(s.err, context.Canceled):
	case errors.Is(s.err, goruntime.ErrExited):
		c.missed.Add(1)
		c.o.Log.Info("a Go process ended before it was observed", "process", t.Process, "pid", t.PID)
	default:
		if errors.Is(s.err, goruntime.ErrNotStarted) || errors.Is(s.err, goruntime.ErrTorn) || waitsForRoom(s.err) {
			// It gets too little CPU to start, or is stopped, or others have the room: that may last.
			f.starting[t.PID] = f.known[t.PID]
			delete(f.known, t.PID)
		}
		f.refuse(t, s.err)
	}
}

// list adds an observation that has been started. It is false, and the observation ended, if the agent was not running
// for a while since it had that many pauses: whoever brought everything up to date may not have known of this target.
func (f *finder) list(o *observed, pauses uint64) bool {
	c := f.c
	c.mu.Lock()
	c.observed[o.info.Key] = o
	delete(c.refused, o.info.Key)
	c.rosterChanged()
	t := o.info // the governor, the probes and tier 2 may change it from now on
	c.mu.Unlock()
	if c.heart.pauses.Load() != pauses {
		c.forget(o)
		return false
	}
	log := c.o.Log.With("process", t.Process, "pid", t.PID)
	if t.Runtime != "" {
		log = log.With("runtime", t.Runtime)
	}
	log.Info("observing", "go", t.GoVersion, "layout", t.Layout, "source", t.Source)
	return true
}

// endStarts waits for those that are at work, and discards what they made.
func (f *finder) endStarts() {
	go func() {
		f.starts.wg.Wait()
		close(f.starts.done)
	}()
	for s := range f.starts.done {
		f.c.discard(s.observed)
	}
}

// discard ends an observation that was never listed.
func (c *collect) discard(o *observed) {
	if o == nil {
		return
	}
	o.silence()
	c.closing.Go(o.close)
}
