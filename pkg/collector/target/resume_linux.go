package target

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/estimate"
	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// After a pause of the agent (see heartbeat) nothing is known of the time between: it is in no total and no interval. A
// P's totals end where the pause began and go on where it ended, so that they sum to wall time less the pauses, which
// are counted. Nothing is estimated: what would be learnt from is as old as the pause is long, and some Ps, those that
// did nothing at all, would be known while others are not, which would make the process look idler than it was.

// Suspend makes the kernel side see nothing of a target that will be resumed, and drops a stop of the world of which
// the end, or the begin, may have been missed.
func (o *Target) Suspend() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.index == 0 || o.closed {
		return
	}
	o.kernel.Pause(o.info.PID, o.index)
	if o.probes != nil {
		o.probes.Forget()
	}
	for _, p := range o.ps {
		atomic.StoreUint64(&p.rec.Arrived, 0)
	}
}

// Resume takes up the observation of a target again, of which nothing is known since the tick from.
func (o *Target) Resume(from uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	var known map[uint32]kern.ScopeThread
	byEvents := o.seen() // by events, and not by snapshots only at present
	if byEvents {
		known = o.threadsAfter(from)
	}
	for _, p := range o.ps {
		ledger.EndD(p.rec, from)
		p.overcounted = 0
	}
	err := o.proc.Snapshot(&o.snap, true)
	if err != nil && !errors.Is(err, refusal.ErrTorn) {
		return err
	}
	now := ledger.Now()
	for i, p := range o.ps {
		w := ledger.Word(atomic.LoadUint64(&p.rec.Word))
		owner, s, t := w.Owner(), w.State(), w.Thread() // if nothing better is known: the next snapshots mend it
		switch {
		case err != nil:
		case i >= len(o.snap.Ps):
			owner, s, t = 0, pstate.Dead, pstate.NoThread
		case o.snap.Ps[i].OK:
			seen := &o.snap.Ps[i]
			owner, s, t = o.sight(seen)
			p.count(seen)
			atomic.StoreUint32(&p.rec.Schedtick, seen.SchedTick)
			atomic.StoreUint32(&p.rec.SchedtickStale, 0)
		}
		o.skip(p, from, now, owner, s, t)
	}
	o.paused += time.Duration(now-from) * ledger.Tick
	o.gov.Skip() // what was not observed cost nothing
	o.idle.Require()
	o.lagsAt = now
	if m := o.migrations; m != nil {
		m.RestAt(int64(from << ledger.TickShift))
	}
	if o.cycle.on {
		o.measure()
	}
	if byEvents {
		o.seat(known, now)
		o.kernel.Resume(o.info.PID, o.index)
		if err == nil {
			o.enterThreads()
		}
	}
	return nil
}

// skip ends a P's totals and intervals at the tick from and lets them go on at now, in another state. An event that
// came after from, in the moment in which the programs did not know yet that the agent is away or knew already that it
// is back, moves from to itself.
func (o *Target) skip(p *P, from, now uint64, owner uint32, s pstate.State, t pstate.ThreadState) {
	for {
		raw := ledger.ReadAt(p.rec, from)
		if !atomic.CompareAndSwapUint64(&p.rec.Word, uint64(raw.Word), uint64(ledger.NewWord(now, owner, s, t))) {
			continue // a program that had begun before
		}
		open := raw.Now - ledger.Since(raw.Now, uint64(raw.Word))
		atomic.AddUint64(&p.rec.Time[ledger.Cell(raw.Word.State(), raw.Word.Thread())], open)
		p.rec.Birth += now - raw.Now
		o.scratch = o.scratch[:0]
		o.take(p, &raw, true)
		if len(o.scratch) > 0 {
			o.env.Sink.Append(o.info.Key, o.scratch)
		}
		p.intervals.SkipTo(now)
		p.disagreed = false
		if p.estimated != nil {
			p.estimated.Restart(p.rec, estimate.Sight{
				SchedTick: p.schedTick.low, SyscallTick: p.syscallTick.low, State: s, TID: owner,
			}, now)
		}
		return
	}
}

// threadsAfter gives the target's threads as they are now, with their times as they were at the tick from.
func (o *Target) threadsAfter(from uint64) map[uint32]kern.ScopeThread {
	known, now := o.knownThreads(), ledger.Now()
	for tid, th := range known {
		state, _, err := o.threadState(int32(tid))
		if err != nil {
			o.kernel.Threads.Remove(tid) // it has ended
			delete(known, tid)
			continue
		}
		ledger.AddThreadTime(&th, ledger.Word(th.Word).Thread(), ledger.Elapsed(from, th.Word))
		th.Word = uint64(ledger.NewWord(now, 0, 0, state))
		known[tid] = unseated(th, now)
	}
	return known
}

// unseated is a thread's entry without what is known of its P, which may have become another's.
func unseated(th kern.ScopeThread, now uint64) kern.ScopeThread {
	th.SwitchIn, th.HandedAt, th.HeldAt, th.LostAt = now, 0, 0, 0
	th.Slot, th.D_slot, th.TicksWithoutP, th.ReleasedSlot, th.Woken, th.M_verified, th.WokenOnCpu = 0, 0, 0, 0, 0, 0, 0
	return th
}
