package collector

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// The steps by which less is observed of a target that observing costs too much. Each includes those before it; the order is that of what they save
// against what they take away.
const (
	stepNone       = iota
	stepMigrations // tier 2 off
	stepIntervals  // no raw intervals; the totals go on, the timeline shows shares
	stepWindows    // observed for one second in several; see windows
	stepStops      // tier 1 off: no uprobe is left in the target's code
	stepSnapshots  // tier 0 off: the kernel side no longer sees the target
	stepLast       = stepSnapshots
)

// leftOut names what each step takes away, for people.
var leftOut = [...]string{"", "goroutine migrations", "raw intervals", "all but windows of a second (the time between is estimated)", "stops", "everything but snapshots"}

// eventOverhead is what an event costs a target besides the time that the programs measure themselves: the tracepoint's own dispatch and the look-up of
// the target (bench/results/cost.md).
const eventOverhead = 50 * time.Nanosecond

const (
	governWindow   = 100 * time.Millisecond // of the target's CPU time: /proc counts in steps of 10 ms
	governLongest  = 10 * time.Second       // a window ends after this long, however little the target ran
	governHeadroom = 0.9                    // of the budget, from where on less is observed, so that the budget itself is not passed
	governCalm     = 0.5                    // of the budget, below which more is tried again
	governHot      = 2                      // windows in a row over the headroom make a step; one may be a hiccup of the machine
	patienceLeast  = 10                     // calm windows after which more is tried again
	patienceMost   = 1800                   // likewise, when trying failed over and over
	patienceProven = 10                     // times its patience that a level must have been kept for its failures to be forgotten
)

// governor decides how much of one target is observed.
//
// It must neither pass the budget nor swing: on a busy machine what observing costs changes from second to second, and each change of level is a gap in
// what is shown. So a step takes windows in a row; between the shares that make it leave out more and those that make it try more lies almost half of the budget;
// and each level has a patience of its own, which doubles whenever the level proves too dear and is forgotten only after the level was kept for long. At worst a
// level is left once in patienceProven times its patience.
type governor struct {
	budget, floor float64 // shares of the target's CPU time, and of one CPU

	level     int
	share     float64       // of the target's CPU time, in the last window
	yields    bool          // the level itself can cost less, and will
	hot, calm int           // windows in a row over the headroom, below calm
	kept      int           // windows since the level was reached
	patience  [stepLast]int // by level: calm windows above it before it is tried again; doubled each time it proves too dear

	cost, cpu, wall time.Duration // of the window so far
	lastCost        time.Duration // readings of counters
	lastCPU         time.Duration
	lastAt          uint64
}

func newGovernor(budget, floor float64) governor {
	g := governor{budget: budget, floor: floor}
	for i := range g.patience {
		g.patience[i] = patienceLeast
	}
	return g
}

// judge takes what observing cost, the target's CPU time, and the time that passed, and says whether less (+1) or more (-1) should be observed.
func (g *governor) judge(cost, cpu, wall time.Duration) int {
	g.cost, g.cpu, g.wall = g.cost+cost, g.cpu+cpu, g.wall+wall
	if g.wall <= 0 || g.cpu < governWindow && g.wall < governLongest {
		return 0
	}
	rate := float64(g.cost) / float64(g.wall)
	g.share = float64(g.cost) / float64(max(g.cpu, time.Millisecond))
	g.cost, g.cpu, g.wall = 0, 0, 0
	g.kept++
	switch {
	case g.share > g.budget*governHeadroom && rate > g.floor:
		g.calm = 0
		if g.yields {
			g.hot = 0
			return 0
		}
		if g.hot++; g.hot < governHot || g.level == stepLast {
			return 0
		}
		if w := &g.patience[g.level]; g.kept > patienceProven**w {
			*w = patienceLeast
		} else {
			*w = min(2**w, patienceMost)
		}
		return +1
	case g.level > stepNone && (g.share < g.budget*governCalm || rate < g.floor*governCalm):
		g.hot = 0
		if g.calm++; g.calm < g.patience[g.level-1] {
			return 0
		}
		return -1
	}
	g.hot, g.calm = 0, 0
	return 0
}

// reach notes that a level has been reached: what was seen on another says nothing of it.
func (g *governor) reach(level int) {
	g.level, g.hot, g.calm, g.kept = level, 0, 0, 0
}

// probeCost is what observing has cost the target so far, in CPU time.
func (o *observed) probeCost() time.Duration {
	s := o.shared
	cost := time.Duration(atomic.LoadUint64(&s.ProbeNs)) + time.Duration(atomic.LoadUint64(&s.Events))*eventOverhead
	traps := 2 * atomic.LoadUint64(&s.Stops)
	if atomic.LoadUint32(&s.EndProbeAttached) != 0 {
		traps += traps / 2
	}
	return cost + time.Duration(traps)*o.c.kernel.trap()
}

// govern measures what observing costs each target, and steps down or up.
func (c *collect) govern() {
	if c.kernel == nil || c.o.CostBudget < 0 {
		return
	}
	for _, o := range c.all() {
		if !o.governDue() {
			continue
		}
		stat, err := c.o.readStat(o.info.PID)
		if err != nil {
			continue // it is ending
		}
		o.govern(stat.cpu)
	}
}

// governDue says whether it is worth while to read how much CPU time the target has used: not as long as nothing is left out and observing it costs so
// little that this cannot change.
func (o *observed) governDue() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := &o.gov
	if o.windows.on {
		return o.windows.ended // what a window costs is judged over the time between as well
	}
	wall := time.Duration(nowTick()-g.lastAt) * tick
	return g.level != stepNone || g.lastAt == 0 || wall >= governLongest || float64(o.probeCost()-g.lastCost) > g.floor*float64(wall)
}

func (o *observed) govern(cpu time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	g := &o.gov
	g.yields = o.windows.on && !o.windows.tooDear
	if o.windows.ended && o.windows.tooDear {
		g.hot = governHot - 1 // that is no hiccup
	}
	o.windows.ended = false
	now, cost := nowTick(), o.probeCost()
	if g.lastAt != 0 {
		wall := time.Duration(now-g.lastAt) * tick
		o.step(g.level + g.judge(cost-g.lastCost, cpu-g.lastCPU, wall))
	}
	g.lastAt, g.lastCost, g.lastCPU = now, cost, cpu
}

// step brings the observation to a level. The caller holds mu.
func (o *observed) step(to int) {
	g := &o.gov
	from := g.level
	if to == from {
		return
	}
	// A step that would change nothing here is not taken.
	for to == stepMigrations && !o.c.o.Migrations || to == stepStops && o.c.o.NoStops {
		to += (to - from) / max(to-from, from-to)
	}
	g.reach(to)
	k := o.c.kernel
	atomic.StoreUint32(&o.shared.Intervals, flag(to < stepIntervals))
	var err error
	if o.windows.on && (to < stepWindows || to >= stepSnapshots) {
		if o.windows.between && to < stepWindows && o.openWindow() != nil {
			k.see(o.info.PID, o.index) // the snapshots repair what it finds changed
		}
		o.endWindows()
	}
	switch {
	case to >= stepStops:
		o.wantStops(false)
	case from >= stepStops && !o.c.o.NoStops:
		o.wantStops(true)
	}
	switch {
	case to >= stepSnapshots && !o.blind:
		o.blind = true
		k.leave(o.info.PID, o.index)
		k.forgetThreads(o.index)
		o.uncountD() // the next snapshot counts those that it sees
	case to < stepSnapshots && o.blind:
		if err = o.proc.Snapshot(&o.snap, true); err != nil {
			g.reach(stepSnapshots) // it is ending, or will be tried again
			return
		}
		o.blind = false
		o.uncountD()
		err = k.enter(o.info.PID, o.index)
		o.enterThreads()
	}
	switch {
	case to < stepWindows || to >= stepSnapshots:
	case o.windows.between:
		o.windows.turn = nowTick() // what this level costs is to be known soon
	case o.windows.on:
	default:
		every, _ := windowsFor(g.share, 0, g.budget)
		o.startWindows(every)
	}
	if err != nil {
		o.c.o.Log.Warn("observing more again failed in part", "process", o.info.Process, "pid", o.info.PID, "err", err)
	}
	o.describeLevel()
	o.c.o.Log.Info("observing costs a target too much, or no longer does: what is left out has changed", "process", o.info.Process, "pid", o.info.PID,
		"level", to, "was", from, "cost", g.share, "budget", g.budget)
}

// describeLevel says in the target's description what the governor leaves out.
func (o *observed) describeLevel() {
	source, reason := pstate.SourceEBPF, o.fullReason
	if o.blind {
		source = pstate.SourceSnapshot
	}
	if level := o.gov.level; level > stepNone {
		var parts []string
		if level == stepSnapshots {
			parts = leftOut[level:]
		} else {
			parts = leftOut[stepMigrations : level+1]
			if !o.c.o.Migrations {
				parts = leftOut[stepIntervals : level+1]
			}
		}
		reason = "left out, because observing costs it more of its CPU time than --cost-budget allows: " + strings.Join(parts, ", ")
	}
	if m := o.migrations; m != nil && m.off != "" && o.gov.level < stepMigrations {
		if reason != "" {
			reason += "; "
		}
		reason += lack.NoMigrations(m.off)
	}
	o.c.mu.Lock()
	o.info.Source, o.info.Reason = source, cleantext.Text(reason, cleantext.MaxReason)
	o.c.mu.Unlock()
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
