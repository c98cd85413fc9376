package discover

import (
	"context"
	"errors"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/share"
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// The observation of processes is started by workers, several at once: a process whose runtime has not started yet, or
// whose memory takes long to read, holds up no other.

const startTries = 8 // a Go process that has just started has no Ps yet

// beginning is one observation that is being started, and what became of it.
type beginning struct {
	target  pstate.Target
	bin     *goruntime.Binary
	library *process.Mapped // what the runtime is in; nil: the program itself
	uid     uint32
	id      procID
	tries   int
	pauses  uint64 // of the agent, before it began
	goOn    bool   // there are libraries that have not been looked at

	runtime Runtime // under observation; nil: there was an error
	changed bool    // it executes another program by now
	err     error
}

// start lets a worker start the observation of a process's program, or of its libraries one after the other: the first
// is observed by eBPF, the others are not.
func (f *Finder) start(ctx context.Context, uid uint32, all ...beginning) {
	s := &all[0]
	pid := s.target.PID
	s.uid, s.id, s.tries, s.pauses = uid, f.known[pid], startTries, f.observer.Pauses()
	if s.library != nil || f.starting[pid] == s.id {
		s.tries = 1
	}
	if s.library == nil {
		delete(f.starting, pid)
	}
	w := &work{pid: pid, uid: uid, do: func(w *work) {
		if s.err = w.enter(fileAt{}); s.err == nil {
			f.begin(ctx, s)
			w.leave()
		}
	}}
	f.work(ctx, f.starts, w, partOf(s), s.id, func() {
		f.started(s)
		switch {
		case f.known[pid] != s.id || f.working[pid] != nil || f.again[pid]:
		case len(all) > 1:
			f.start(ctx, uid, all[1:]...)
		case s.library == nil || s.goOn:
			f.checkLibraries(ctx, pid)
		}
	}, func() { f.refuse(s.target, noAnswerFrom(w)) })
}

// partOf is what of its process is looked at again if its start hangs.
func partOf(s *beginning) part {
	if s.library != nil {
		return itsLibraries
	}
	return itsProgram
}

// begin observes a target. A process that has only just been started has no Ps yet, so what does not fit is tried again
// for a moment.
func (f *Finder) begin(ctx context.Context, s *beginning) {
	for try := range s.tries {
		if ctx.Err() != nil {
			s.err = ctx.Err()
			return
		}
		s.runtime, s.err = f.observer.Observe(s.target, s.uid, s.bin, s.library)
		if s.err == nil || errors.Is(s.err, refusal.ErrExited) || errors.Is(s.err, refusal.ErrNoPrivilege) ||
			errors.Is(s.err, share.ErrNoRoom) || errors.Is(s.err, refusal.ErrNoAnswer) {
			return
		}
		if exe, err := identifyProgram(f.Proc.Path(s.target.PID, "exe")); err == nil && exe != s.id.exe {
			s.changed = true
			return
		}
		if try+1 < s.tries {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(1<<try) * 2 * time.Millisecond):
			}
		}
	}
}

// started lists a target whose observation has been started, or says why it has not.
func (f *Finder) started(s *beginning) {
	t := s.target
	if f.known[t.PID] != s.id || f.working[t.PID] != nil {
		f.discard(s.runtime) // another process, or it has ended
		return
	}
	if !f.wanted(&t) { // the choice has changed since
		f.discard(s.runtime)
		return
	}
	switch {
	case s.changed:
		delete(f.known, t.PID)
	case s.err == nil:
		if s.runtime != nil && !f.list(s.runtime, s.pauses) {
			f.again[t.PID] = true
		}
	case errors.Is(s.err, context.Canceled):
	case s.library != nil && (errors.Is(s.err, refusal.ErrExited) || errors.Is(s.err, refusal.ErrExeced)):
	case errors.Is(s.err, refusal.ErrExited):
		f.Counts.Missed.Add(1)
		f.Log.Info("a Go process ended before it was observed", "process", t.Process, "pid", t.PID)
	default:
		lacks := share.MayPass(s.err)
		if errors.Is(s.err, refusal.ErrNotStarted) || errors.Is(s.err, refusal.ErrTorn) || lacks != nil {
			// It gets too little CPU to start, or is stopped, or others have the room: that may last.
			f.waitForRoom(t, s.library != nil)
		}
		if lacks != nil {
			for _, r := range f.observer.MakeRoom(s.uid, lacks) {
				f.endFor(r, share.GivenAway(lacks.Kind))
			}
		}
		if errors.Is(s.err, refusal.ErrNoAnswer) {
			f.unreadFor(t.PID, partOf(s), s.err)
		}
		f.refuse(t, s.err)
	}
}

// list adds an observation that has been started. It is false, and the observation ended, if the agent was not running
// for a while since it had that many pauses: whoever brought everything up to date may not have known of this target.
func (f *Finder) list(r Runtime, pauses uint64) bool {
	f.observer.List(r)
	t := r.Description()
	f.Refused.delete(t.Key)
	if f.observer.Pauses() != pauses {
		f.observer.Forget(r)
		return false
	}
	log := f.Log.With("process", t.Process, "pid", t.PID)
	if t.Runtime != "" {
		log = log.With("runtime", t.Runtime)
	}
	log.Info("observing", "go", t.GoVersion, "layout", t.Layout, "source", t.Source)
	return true
}

// discard ends an observation that was never listed.
func (f *Finder) discard(r Runtime) {
	if r != nil {
		f.observer.Discard(r)
	}
}
