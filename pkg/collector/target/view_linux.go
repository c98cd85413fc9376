package target

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// lostInKernel is what the kernel side counted of a kind of loss. The caller holds mu.
func (o *Target) lostInKernel(reason kern.ScopeLostReason) (n uint64) {
	if reason != kern.ScopeLostReasonLOST_INTERVAL_BUDGET {
		return atomic.LoadUint64(&o.shared.Lost[reason])
	}
	for _, p := range o.ps {
		n += atomic.LoadUint64(&p.rec.Unsent)
	}
	return n
}

// View is the target with everything known of it at one instant. ok is false once it has been closed.
func (o *Target) View() (v pstate.TargetView, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return v, false
	}
	o.bringUp()
	v = pstate.TargetView{
		Target: o.Description(), GOMAXPROCS: o.gomaxprocs, GlobalRunq: o.globalRunq,
		GlobalRunqLooks: o.globalN, GlobalRunqSum: o.globalSum,
		Ps:      make([]pstate.PView, len(o.ps)),
		Threads: o.threads, ThreadsAt: o.threadsAt, Paused: o.paused,
		Cgroup: o.control.says, StoppedBy: o.control.stoppedBy, FrozenBy: o.control.frozenBy,
		StopHist: maps.Clone(o.stops), Lost: maps.Clone(o.lost), Reconciled: maps.Clone(o.repaired),
	}
	for i, name := range kernel.LostReasons {
		if n := o.lostInKernel(kern.ScopeLostReason(i)); n > 0 {
			v.Lost[name] += n
		}
	}
	if o.index != 0 {
		v.Governor = pstate.Governor{
			Governed: o.gov.Budget > 0, Level: int(o.gov.Level()), Share: o.gov.Share(), Observed: o.observedRatio(),
		}
		v.ProbeTime = map[string]time.Duration{"0+1": time.Duration(atomic.LoadUint64(&o.shared.ProbeNs))}
	}
	// All are brought up to the instant at which the last one was read, whatever kept the agent from its CPU in
	// between.
	raws := make([]ledger.Totals, len(o.ps))
	var at uint64
	for i, p := range o.ps {
		var ok bool
		if raws[i], ok = ledger.Read(p.rec); !ok {
			o.repaired["unfinished"]++
		}
		at = max(at, raws[i].Now)
	}
	for i, p := range o.ps {
		raw := &raws[i]
		raw.Time[ledger.Cell(raw.Word.State(), raw.Word.Thread())] += at - raw.Now
		raw.Now = at
		o.viewP(p, &v.Ps[i], raw)
	}
	if o.migrations != nil {
		o.migrations.View(&v)
	}
	v.At = o.env.Clock.Unix(at)
	return v, true
}

func (o *Target) viewP(p *P, v *pstate.PView, raw *ledger.Totals) {
	r := p.rec
	samples := [2]uint64{atomic.LoadUint64(&r.Samples[1]), atomic.LoadUint64(&r.Samples[2])}
	shown := p.ledger.Show(raw.Time, samples)
	since := p.renewed.SinceOf(uint64(raw.Word), ledger.Since(raw.Now, uint64(raw.Word)))
	*v = pstate.PView{
		P: p.id, State: raw.Word.State(), Thread: raw.Word.Thread(), Since: o.env.Clock.Unix(since),
		TID: int32(raw.Word.Owner()), RunqDepth: p.runqDepth, RunqHist: p.runqHist, RunqSum: p.runqSum,
		RunqIdle: p.runqIdle, RunqIdleSum: p.runqIdleSum, SchedTick: p.schedTick.total,
		SyscallTick: p.syscallTick.total,
		Time:        shown.Durations(), FirstSeen: p.firstSeen,
		StopTime: time.Duration(atomic.LoadUint64(&r.StopTime)) * ledger.Tick,
	}
	d := atomic.LoadUint64(&r.D_time)
	if w := atomic.LoadUint64(&r.D_word); w>>ledger.SinceBits > 0 {
		d += ledger.Elapsed(raw.Now, w)
	}
	v.Uninterruptible = time.Duration(d) * ledger.Tick
	for i := range r.Moves {
		v.Transitions[i/pstate.NumStates][i%pstate.NumStates] = atomic.LoadUint64(&r.Moves[i])
	}
	for i := range r.Wake {
		n := atomic.LoadUint64(&r.Wake[i])
		v.WakeWait.Buckets[i] = n
		v.WakeWait.Count += n
	}
	v.WakeWait.Sum = time.Duration(atomic.LoadUint64(&r.WakeSum))
}
