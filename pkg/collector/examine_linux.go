package collector

import (
	"cmp"
	"context"
	"os"
	"slices"

	"github.com/p-scope/p-scope/pkg/collector/discover"
	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/share"
	"github.com/p-scope/p-scope/pkg/collector/stops"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Prospect is what an agent would make of a process.
type Prospect struct {
	pstate.Target // source and reason as an agent's Targets has them
	// NoMigrations says why goroutine migrations would not be counted in it, if the agent were asked to; empty: they
	// could.
	NoMigrations string
	Fix          string // what to do about a reason; empty if there is none, or nothing to do
}

// Room is what an agent has room for, and how much of it the Go processes here take.
type Room struct {
	Ps, PsUsed           int // in steps of 8: Ps of different processes don't share one
	Threads, ThreadsUsed int
	Refused              int // runtimes for which there would be none
}

// Examine says of each Go process but this one what an agent like as would make of it, in the agent's own words and by
// its own code: the program is read, the layout is proven in the process's memory, and a snapshot is taken. No probe is
// put into it, nothing is observed. It also gives what such an agent would lack of processes that it may not look at,
// how many these are, and what room it has. It ends early with its context.
func Examine(ctx context.Context, o Options, as AgentInfo) (found []Prospect, lacks []Lack, hidden int, has Room) {
	o.Mode = ModeSnapshot
	c := newCollect(o)
	c.info.AgentInfo = as
	f := c.found
	f.Fixes = map[pstate.Key]string{}
	targets := 0
	if spec, err := kern.LoadScope(); err == nil {
		targets = int(spec.Maps[kern.ScopeMapTargets].MaxEntries) - 1
	}
	r := share.NewRoom(targets, kernel.Chunks(c.o.MaxPs), c.o.MaxThreads)
	pids, err := c.o.proc().PIDs()
	if err != nil {
		return nil, []Lack{{What: "all processes", Why: err.Error(), Fix: "mount /proc"}}, 0, has
	}
	for _, pid := range pids {
		if pid == int32(os.Getpid()) || slices.Contains(o.Except, pid) || ctx.Err() != nil {
			continue
		}
		f.Examine(ctx, pid)
		// Each is let go at once: many at a time would take as many descriptors.
		runtimes := slices.Clone(c.all())
		slices.SortFunc(runtimes,
			func(a, b *target.Target) int { return cmp.Compare(a.LibraryStart(), b.LibraryStart()) })
		for i, seen := range runtimes {
			p := prospect(seen, as)
			if i > 0 && p.Source == pstate.SourceEBPF {
				p.Source, p.Reason = pstate.SourceSnapshot, severalRuntimes(runtimes[0].Key().Runtime)
			}
			if p.Source == pstate.SourceEBPF {
				if err := c.wouldFit(&r, seen); err != nil {
					has.Refused++
					p.Source, p.Layout, p.Reason, p.Fix = pstate.SourceRefused, pstate.LayoutNone, err.Error(), ""
				}
			}
			found = append(found, p)
			c.forget(seen)
		}
	}
	f.End()
	c.closing.Wait()
	for _, t := range f.Refused.All() {
		found = append(found, Prospect{Target: t, Fix: f.Fixes[t.Key]})
	}
	slices.SortFunc(found, func(a, b Prospect) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID),
			cmp.Compare(a.Runtime, b.Runtime))
	})
	l, hidden := f.Hidden.Lack()
	if hidden > 0 {
		lacks = append(lacks, l)
	}
	has.Ps, has.PsUsed = r.Total[share.Ps]*kernel.ChunkPs, r.Used[share.Ps]*kernel.ChunkPs
	has.Threads, has.ThreadsUsed = r.Total[share.Threads], r.Used[share.Threads]
	return found, lacks, hidden, has
}

// wouldFit takes the room that a target would take, or says what there is none of.
func (c *collect) wouldFit(r *share.Room, o *target.Target) error {
	needs := [share.Kinds]int{1, kernel.Chunks(o.NumPs()), 1}
	if stat, err := c.o.proc().Stat(o.PID()); err == nil {
		needs[share.Threads] = stat.Threads
	}
	for of, n := range needs {
		if r.Free(share.Kind(of)) < n {
			return share.Full(share.Kind(of), n)
		}
	}
	for of, n := range needs {
		r.Take(o.UID(), share.Kind(of), n)
	}
	return nil
}

// prospect is what an agent like as would make of a process of which a snapshot can be taken.
func prospect(o *target.Target, as AgentInfo) Prospect {
	p := Prospect{Target: o.Description()}
	lackOf := func(what string) (l Lack) {
		for _, l := range as.Lacks {
			if l.What == what {
				return l
			}
		}
		return l
	}
	if as.Mode != string(ModeEBPF) {
		p.Fix = lackOf(lack.EBPF).Fix
		return p
	}
	if err := kernel.BeyondReach(o.Binary()); err != nil {
		p.Source, p.Layout, p.Reason = pstate.SourceRefused, pstate.LayoutNone, err.Error()
		p.Fix = discover.FixForRefused(err)
		return p
	}
	p.Source = pstate.SourceEBPF
	if _, err := o.Binary().StartedProbe(); err != nil {
		p.NoMigrations = err.Error()
	}
	if err := stops.Missing(o.Binary()); err != nil {
		p.Reason = lack.NoStops(err.Error())
	} else if l := lackOf(lack.Stops); l.What != "" {
		p.Reason, p.Fix = lack.NoStops(l.Why), l.Fix
	}
	return p
}
