package target

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/estimate"
	"github.com/p-scope/p-scope/pkg/collector/govern"
	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Where observing a target all the time would cost it too much, it is observed for one second in several. In the time
// between the kernel side does not see its threads at all, and the snapshots say for each P whether anything happened
// from one to the next: if not, it was in the state they found it in; if so, its time is estimated to have passed as it
// did in those observed stretches in which as much happened to it. Events are extrapolated likewise. Stops are seen all
// the time, and whether a thread is stuck in uninterruptible sleep is looked up with each snapshot.
const (
	observedSecond = uint64(1e9) >> ledger.TickShift
	minCycleCPU    = 50 * time.Millisecond // of a target that used less, a share of its CPU time says nothing
)

// dutyCycle says when a target is observed.
type dutyCycle struct {
	on           bool    // it is observed for one second in several
	off          bool    // and now is not
	seconds      int     // one second in as many
	next         uint64  // tick at which off changes
	since        uint64  // tick at which the last observed second ended
	ended        bool    // an observed second has ended since the governor looked
	tooExpensive bool    // even the longest cycle would pass the budget
	stops        float64 // share of the target's CPU time that stops cost while off
	// At the last change.
	cost, cpu time.Duration
	// At the end of the last observed second: what the kernel itself counts of each thread, and those counted as in
	// uninterruptible sleep by the slot, plus one, of the P.
	uses   map[uint32]procfs.Schedstat
	asleep map[uint32]uint32
	rates  estimate.ByActivity // of all Ps together
}

// estimator begins to learn about a P.
func (p *P) estimator() *estimate.P {
	return estimate.NewP(p.rec, estimate.Sight{SchedTick: p.schedTick.low, SyscallTick: p.syscallTick.low})
}

// sightOf is what a snapshot says of a P that this thread carries.
func sightOf(seen *process.PSnapshot, tid uint32) estimate.Sight {
	return estimate.Sight{SchedTick: seen.SchedTick, SyscallTick: seen.SyscallTick, State: seen.State, TID: tid}
}

// turnCycle is called with each snapshot, which has just been taken; in an observed second, and at its end, records are
// right at the tick now. The caller holds mu.
func (o *Target) turnCycle(now uint64) error {
	w := &o.cycle
	if !w.on || now < w.next {
		return nil
	}
	if w.off {
		return o.observeAgain()
	}
	o.leaveAlone(now)
	return nil
}

// startCycle goes over to a duty cycle of so many seconds. The first of them, which is observed, begins now. The caller
// holds mu.
func (o *Target) startCycle(seconds int) {
	now := ledger.Now()
	o.cycle = dutyCycle{on: true, seconds: seconds, next: now + observedSecond}
	o.measure()
	for _, p := range o.ps {
		p.estimated = p.estimator()
	}
}

// endCycle goes back to observing all the time, or to snapshots.
func (o *Target) endCycle() {
	o.cycle = dutyCycle{}
	for _, p := range o.ps {
		p.estimated = nil
	}
}

// measure gives what observing has cost since it was last called, as a share of the target's CPU time, if that is
// known.
func (o *Target) measure() (share float64, ok bool) {
	w := &o.cycle
	cost, cpu := w.cost, w.cpu
	w.cost, w.cpu = o.ProbeCost(), 0
	if stat, err := o.env.Proc.Stat(o.info.PID); err == nil {
		w.cpu = stat.CPU
	}
	if cpu == 0 || w.cpu == 0 {
		return 0, false
	}
	// Of a target that hardly runs a share says nothing: its clock ticks in steps of 10 ms.
	return float64(w.cost-cost) / float64(max(w.cpu-cpu, minCycleCPU)), true
}

// leaveAlone makes the kernel side see nothing of the target until its next observed second.
func (o *Target) leaveAlone(now uint64) {
	w := &o.cycle
	o.kernel.Pause(o.info.PID, o.index)
	w.off, w.ended, w.since = true, true, now
	if full, ok := o.measure(); ok && o.gov.Budget > 0 {
		w.seconds, w.tooExpensive = govern.Cycle(full, w.stops, o.gov.Budget)
	}
	// The length is random, so that the cycle has no rhythm that the target may have as well.
	away := float64(uint64(w.seconds-1)*observedSecond) * (0.75 + rand.Float64()/2)
	w.next = now + uint64(away)
	w.uses, w.asleep = make(map[uint32]procfs.Schedstat), make(map[uint32]uint32)
	for tid, th := range o.knownThreads() {
		w.uses[tid] = o.env.Proc.ThreadSchedstat(o.info.PID, int32(tid))
		if th.D_slot != 0 {
			w.asleep[tid] = th.D_slot
		}
	}
}

// knownThreads are the target's entries in the table of threads.
func (o *Target) knownThreads() map[uint32]kern.ScopeThread {
	known := make(map[uint32]kern.ScopeThread)
	o.kernel.Threads.Each(func(tid uint32, th *kern.ScopeThread) {
		if th.Target == o.index && th.Tgid == uint32(o.info.PID) {
			known[tid] = *th
		}
	})
	return known
}

// observeAgain makes the kernel side see the target again.
func (o *Target) observeAgain() error {
	known := o.refreshThreads()
	// What takes time is done: what is read now holds when the next event comes.
	if err := o.proc.Snapshot(&o.snap, true); err != nil {
		return err
	}
	now := ledger.Now()
	for i, p := range o.ps {
		if i < len(o.snap.Ps) && o.snap.Ps[i].OK {
			o.estimateP(p, &o.snap.Ps[i], now)
			atomic.StoreUint32(&p.rec.Schedtick, o.snap.Ps[i].SchedTick)
			atomic.StoreUint32(&p.rec.SchedtickStale, 0)
		}
		p.disagreed = false
		if p.estimated == nil {
			p.estimated = p.estimator()
		}
		p.estimated.Observe(p.rec)
	}
	w := &o.cycle
	w.rates.Fade()
	w.off, w.uses, w.asleep = false, nil, nil
	w.next = now + observedSecond
	o.uncountD()
	o.seat(known, now)
	o.kernel.Resume(o.info.PID, o.index)
	o.enterThreads()
	if stops, ok := o.measure(); ok {
		w.stops = stops
	}
	return nil
}

// refreshThreads takes from /proc what the threads known to the kernel side have done between two observed seconds.
func (o *Target) refreshThreads() map[uint32]kern.ScopeThread {
	w, now := &o.cycle, ledger.Now()
	known := o.knownThreads()
	for tid, th := range known {
		state, _, err := o.threadState(int32(tid))
		if err != nil {
			o.kernel.Threads.Remove(tid) // it has ended
			delete(known, tid)
			continue
		}
		was := ledger.Word(th.Word).Thread()
		before, use := w.uses[tid], o.env.Proc.ThreadSchedstat(o.info.PID, int32(tid))
		if !use.Known || !before.Known || use.Slices != before.Slices || state != was {
			open := ledger.Elapsed(w.since, th.Word)
			ledger.AddThreadTime(&th, was, open)
			away := ledger.Elapsed(now, th.Word) - open
			on := min(uint64(max(use.OnCPU-before.OnCPU, 0)/ledger.Tick), away)
			waiting := min(uint64(max(use.Waiting-before.Waiting, 0)/ledger.Tick), away-on)
			rest := was
			if rest == pstate.OnCPU || rest == pstate.Runnable || rest == pstate.NoThread {
				rest = pstate.Sleeping
			}
			ledger.AddThreadTime(&th, pstate.OnCPU, on)
			ledger.AddThreadTime(&th, pstate.Runnable, waiting)
			ledger.AddThreadTime(&th, rest, away-on-waiting)
			th.Word = uint64(ledger.NewWord(now, 0, 0, state))
		}
		known[tid] = unseated(th, now)
	}
	return known
}

// seat enters threads again, with the Ps that the last snapshot found them to carry.
func (o *Target) seat(known map[uint32]kern.ScopeThread, now uint64) {
	carried := make(map[uint32]uint32, len(o.ps)) // slots, plus one, by the thread
	for _, p := range o.ps {
		if tid := ledger.Word(atomic.LoadUint64(&p.rec.Word)).Owner(); tid != 0 {
			carried[tid] = uint32(o.slot(p.id)) + 1
		}
	}
	for tid, th := range known {
		if slot := carried[tid]; slot != 0 {
			th.Slot, th.LastSlot = slot, slot
		}
		if ledger.Word(th.Word).Thread() == pstate.Uninterruptible && th.LastSlot != 0 {
			th.D_slot = th.LastSlot
			ledger.EnterD(&o.kernel.Records[th.LastSlot-1], now)
		}
		if entry := o.kernel.Threads.Find(tid); entry != nil {
			*entry = th
		}
	}
}

// learn is called with each snapshot in an observed second.
func (o *Target) learn(p *P, seen *process.PSnapshot) {
	switch {
	case p.estimated != nil:
		p.estimated.Learn(p.rec, sightOf(seen, o.carrier(seen)), &o.cycle.rates)
	case o.cycle.on:
		p.estimated = p.estimator() // new since the cycle began
	}
}

// estimateP is called with each snapshot between two observed seconds: it accounts for a P's time since the one before,
// and takes over the state that this one shows.
func (o *Target) estimateP(p *P, seen *process.PSnapshot, now uint64) {
	if p.estimated == nil {
		o.takeOver(p, seen, now)
		return
	}
	owner, s, t := o.sight(seen)
	o.lookUpD(p, t, now)
	old := ledger.Word(atomic.LoadUint64(&p.rec.Word))
	since := ledger.Since(now, uint64(old))
	e := p.estimated.Pass(sightOf(seen, owner), since, now, &o.cycle.rates)
	if e.Quiet && old.Owner() == owner && old.State() == s && old.Thread() == t {
		return // since is what it was
	}
	if e.Quiet || !e.Known(now) {
		closed, _ := ledger.Swap(p.rec, old, now, owner, s, t, 0)
		o.keep(p, closed[:]...)
		return
	}
	// Until e.From the P was in the state that its word says.
	if !atomic.CompareAndSwapUint64(&p.rec.Word, uint64(old), uint64(ledger.NewWord(now, owner, s, t))) {
		return // the kernel side was still about it when the observed second ended
	}
	atomic.AddUint64(&p.rec.Time[ledger.Cell(old.State(), old.Thread())], e.From-since)
	p.estimated.Add(p.rec, e, now)
}

// lookUpD keeps a P's count of threads in uninterruptible sleep between two observed seconds: those that slept when the
// last one ended, and the one that carries it, in the state t.
func (o *Target) lookUpD(p *P, t pstate.ThreadState, now uint64) {
	asleep := t == pstate.Uninterruptible
	slot := uint32(o.slot(p.id)) + 1
	for tid, at := range o.cycle.asleep {
		if at != slot {
			continue
		}
		if state, _, err := o.threadState(int32(tid)); err == nil && state == pstate.Uninterruptible {
			asleep = true
		} else {
			delete(o.cycle.asleep, tid)
		}
	}
	ledger.SetD(p.rec, asleep, now)
}
