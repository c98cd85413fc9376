package target

import (
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/govern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// eventOverhead is what an event costs a target besides the time that the programs measure themselves: the tracepoint's
// own dispatch and the look-up of the target (bench/results/cost.md).
const eventOverhead = 50 * time.Nanosecond

// ProbeCost is what observing has cost the target so far, in CPU time.
func (o *Target) ProbeCost() time.Duration {
	s := o.shared
	cost := time.Duration(atomic.LoadUint64(&s.ProbeNs)) + time.Duration(atomic.LoadUint64(&s.Events))*eventOverhead
	traps := 2 * atomic.LoadUint64(&s.Stops)
	if atomic.LoadUint32(&s.EndProbeAttached) != 0 {
		traps += traps / 2
	}
	return cost + time.Duration(traps)*o.kernel.TrapCost()
}

// asked is what the options ask for, of what the governor may leave out.
func (o *Target) asked() govern.Asked {
	return govern.Asked{Stops: !o.env.NoStops, Migrations: o.env.Migrations}
}

// scope is what is observed of the target at present. The caller holds mu.
func (o *Target) scope() govern.Scope { return govern.At(o.gov.Level(), o.asked()) }

// GovernDue says whether it is worth while to read how much CPU time the target has used.
func (o *Target) GovernDue() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cycle.on {
		return o.cycle.ended // what an observed second costs is judged over the time between as well
	}
	return o.gov.Due(time.Duration(ledger.Monotonic()), o.ProbeCost())
}

// Govern judges what observing costs the target, which has used so much CPU time, and steps down or up.
func (o *Target) Govern(cpu time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if o.cycle.ended && o.cycle.tooExpensive {
		o.gov.NoHiccup()
	}
	o.cycle.ended = false
	r := govern.Reading{At: time.Duration(ledger.Monotonic()), Cost: o.ProbeCost(), CPU: cpu}
	o.step(o.gov.Judge(r, o.cycle.on && !o.cycle.tooExpensive))
}

// step brings the observation to a level. The caller holds mu.
func (o *Target) step(to govern.Level) {
	from := o.gov.Level()
	if to == from {
		return
	}
	to = govern.Next(from, to, o.asked())
	before, after := o.scope(), govern.At(to, o.asked())
	o.gov.Reach(to)
	k := o.kernel
	atomic.StoreUint32(&o.shared.Intervals, flag(after.Intervals))
	if o.cycle.on && (after.AllTheTime || !after.Events) {
		if o.cycle.off && after.AllTheTime && o.observeAgain() != nil {
			k.Resume(o.info.PID, o.index) // the snapshots repair what it finds changed
		}
		o.endCycle()
	}
	if after.Stops != before.Stops {
		o.probes.Want(after.Stops)
	}
	var err error
	switch {
	case !after.Events && !o.blind:
		o.blind = true
		k.Leave(o.info.PID, o.index)
		k.RemoveThreads(o.index)
		o.uncountD() // the next snapshot counts those that it sees
	case after.Events && o.blind:
		if err = o.proc.Snapshot(&o.snap, true); err != nil {
			o.gov.Reach(govern.OnlySnapshots) // it is ending, or will be tried again
			return
		}
		o.blind = false
		o.uncountD()
		err = k.Enter(o.info.PID, o.index)
		o.enterThreads()
	}
	switch {
	case after.AllTheTime || !after.Events:
	case o.cycle.off:
		o.cycle.next = ledger.Now() // what this level costs is to be known soon
	case !o.cycle.on:
		seconds, _ := govern.Cycle(o.gov.Share(), 0, o.gov.Budget)
		o.startCycle(seconds)
	}
	if err != nil {
		o.env.Log.Warn("observing more again failed in part", "process", o.info.Process, "pid", o.info.PID, "err", err)
	}
	o.describeLevel()
	o.env.Log.Info("observing costs a target too much, or no longer does: what is left out has changed",
		"process", o.info.Process, "pid", o.info.PID, "level", int(to), "was", int(from), "cost", o.gov.Share(),
		"budget", o.gov.Budget)
}

// describeLevel says in the target's description what the governor leaves out.
func (o *Target) describeLevel() {
	source, reason := pstate.SourceEBPF, o.probes.WhyNoStops()
	if o.blind {
		source = pstate.SourceSnapshot
	}
	level := o.gov.Level()
	if left := govern.LeftOut(level, o.asked()); left != "" {
		reason = left
	}
	if m := o.migrations; m != nil && level < govern.NoMigrations {
		if why := m.WhyOff(); why != "" {
			if reason != "" {
				reason += "; "
			}
			reason += lack.NoMigrations(why)
		}
	}
	o.infoMu.Lock()
	o.info.Source, o.info.Reason = source, cleantext.Text(reason, cleantext.MaxReason)
	o.infoMu.Unlock()
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
