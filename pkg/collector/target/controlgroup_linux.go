package target

import (
	"log/slog"
	"time"

	"github.com/p-scope/p-scope/pkg/cgroup"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// What a target's control groups say is read once in a while for all processes of a group together. The freezer's state
// is needed because since Linux 6.1 a thread that sleeps where it may be frozen is frozen in its sleep, without an
// event (kernel/freezer.c, __freeze_task), and because /proc calls frozen threads D (version 1) or S (version 2).
const (
	groupEvery   = 10 * time.Second // how often the groups of a process are looked up: it may be moved
	limitsEvery  = 2 * time.Second
	freezerEvery = 900 * time.Millisecond
	freezerFresh = 50 * time.Millisecond // for a thread whose state was read just now
)

// controlGroup is what the control groups of one process say, and what suspended it last. The target's mu guards it.
type controlGroup struct {
	reader *cgroup.Reader
	proc   procfs.FS
	log    *slog.Logger
	pid    int32

	group           *cgroup.Group // nil until it has been found
	foundAt, readAt time.Time
	says            *pstate.Cgroup // limits, throttling and pressure; nil until they have been read
	// What last kept threads from running.
	stoppedBy, frozenBy pstate.Suspension
}

// find looks up the process's groups if that was long ago, and says whether they are known.
func (g *controlGroup) find(now time.Time) bool {
	if g.foundAt.IsZero() || now.Sub(g.foundAt) >= groupEvery {
		g.foundAt = now
		group, err := g.reader.GroupOf(g.pid)
		if err != nil {
			g.log.Debug("the control groups of a process can't be found", "pid", g.pid, "err", err)
			return g.group != nil
		}
		g.group = group
	}
	return g.group != nil
}

// read brings what the groups say up to date.
func (g *controlGroup) read(now time.Time) {
	if g.says == nil || now.Sub(g.readAt) >= limitsEvery-freezerFresh {
		g.says, g.readAt = g.reader.Look(g.group, now, limitsEvery/2), now
	}
}

// frozen says whether the freezer holds the process, by what was read no longer ago than this.
func (g *controlGroup) frozen(now time.Time, ago time.Duration) bool {
	return g.reader.Frozen(g.group, now, ago)
}

// thawed says whether the freezer lets it run.
func (g *controlGroup) thawed(now time.Time) bool {
	state, _ := g.reader.FreezerOf(g.group, now, 0)
	return state == cgroup.Thawed
}

// threadState reads the state and the name of one of the process's threads.
func (g *controlGroup) threadState(tid int32) (pstate.ThreadState, string, error) {
	t, comm, err := g.proc.ThreadState(g.pid, tid)
	if err == nil && (t == pstate.Sleeping || t == pstate.Uninterruptible) {
		now := time.Now()
		if g.find(now) && g.frozen(now, freezerFresh) {
			t = pstate.Frozen
		}
	}
	return t, comm, err
}

// findStopper finds out what keeps a thread stopped.
func (g *controlGroup) findStopper(tid int32, now time.Time) {
	s := pstate.Suspension{By: pstate.SuspendedBySignal, At: now.UnixNano()}
	tracer, ok := g.proc.TracerOf(g.pid, tid)
	if !ok {
		return // it has ended
	}
	if tracer != 0 {
		s.By, s.Tracer = pstate.SuspendedByTracer, tracer
		if stat, err := g.proc.Stat(tracer); err == nil {
			s.TracerName = cleantext.Name(stat.Comm, cleantext.MaxName)
		}
	}
	g.stoppedBy = s
}

// findFreezer finds out which group keeps the process frozen.
func (g *controlGroup) findFreezer(now time.Time) {
	_, path := g.reader.FreezerOf(g.group, now, freezerEvery)
	g.frozenBy = pstate.Suspension{By: pstate.SuspendedByFreezer, Cgroup: path, At: now.UnixNano()}
}
