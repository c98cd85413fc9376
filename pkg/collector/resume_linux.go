package collector

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	gorefusal "github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// After a pause of the agent (see heartbeat) nothing is known of the time between: it is in no total and no interval. A P's totals end where the pause began and go on where
// it ended, so that they sum to wall time less the pauses, which are counted. Nothing is estimated: what would be learnt from is as old as the pause is long, and some Ps, those
// that did nothing at all, would be known while others are not, which would make the process look idler than it was.

// resume brings everything up to date after a pause that began at since, CLOCK_MONOTONIC.
func (c *collect) resume(since int64) {
	h := &c.heart
	h.resuming.Store(true)
	defer h.resuming.Store(false)
	h.pauses.Add(1) // before the targets are listed: see finder.start
	from := uint64(since) >> tickShift
	all := c.all()
	// No event must meet a record that is out of date. The programs still do nothing.
	for _, o := range all {
		o.mu.Lock()
		if o.index != 0 && !o.closed {
			c.kernel.overlook(o.info.PID, o.index)
			o.forgetStops()
		}
		o.mu.Unlock()
	}
	c.drain() // what was sent before
	now := monoNow()
	h.set(now)
	for _, o := range all {
		if err := o.resume(from); err != nil {
			c.ended(o, err)
		}
	}
	c.found.fellBehind() // no exec was told of
	c.o.Log.Warn("the agent was not running for a while: it was stopped, or got no CPU. Nothing is known of this time, and no total contains it",
		"from", time.Unix(0, c.clock.unix(from)), "for", time.Duration(now-since), "targets", len(all))
}

// forgetStops drops a stop of the world of which the end, or the begin, may have been missed. The caller holds mu.
func (o *observed) forgetStops() {
	s := o.shared
	o.expectNoStops()
	atomic.StoreUint64(&s.StopStart, 0)
	atomic.StoreUint64(&s.StopStartRuntime, 0)
	atomic.StoreUint32(&s.StopTid, 0)
	for _, p := range o.ps {
		atomic.StoreUint64(&p.rec.Arrived, 0)
	}
	if len(o.links) > 0 {
		o.expectStops() // of the present one only the end will be seen
	}
}

// resume takes up the observation of a target again, of which nothing is known since the tick from.
func (o *observed) resume(from uint64) error {
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
		uncountD(p.rec, from)
		p.overcounted = 0
	}
	err := o.proc.Snapshot(&o.snap, true)
	if err != nil && !errors.Is(err, gorefusal.ErrTorn) {
		return err
	}
	now := nowTick()
	for i, p := range o.ps {
		w := word(atomic.LoadUint64(&p.rec.Word))
		owner, s, t := w.owner(), w.state(), w.thread() // if nothing better is known: the next snapshots mend it
		switch {
		case err != nil:
		case i >= len(o.snap.Ps):
			owner, s, t = 0, pstate.Dead, pstate.NoThread
		case o.snap.Ps[i].OK:
			seen := &o.snap.Ps[i]
			owner, s, t = o.sight(seen)
			p.see(seen)
			atomic.StoreUint32(&p.rec.Schedtick, seen.SchedTick)
			atomic.StoreUint32(&p.rec.SchedtickStale, 0)
		}
		o.skip(p, from, now, owner, s, t)
	}
	o.paused += time.Duration(now-from) * tick
	o.gov.lastAt = 0 // what was not observed cost nothing
	o.resting.since = restingMost
	o.lagsAt = now
	if m := o.migrations; m != nil {
		m.restAt(int64(from << tickShift))
	}
	if o.windows.on {
		o.measure()
	}
	if byEvents {
		o.seat(known, now)
		o.c.kernel.see(o.info.PID, o.index)
		if err == nil {
			o.enterThreads()
		}
	}
	return nil
}

// skip ends a P's totals and intervals at the tick from and lets them go on at now, in another state. An event that came after from, in the moment in which the programs did
// not know yet that the agent is away or knew already that it is back, moves from to itself.
func (o *observed) skip(p *observedP, from, now uint64, owner uint32, s pstate.State, t pstate.ThreadState) {
	for {
		raw := totalsAt(p.rec, from)
		if !atomic.CompareAndSwapUint64(&p.rec.Word, uint64(raw.word), uint64(wordOf(now, owner, s, t))) {
			continue // a program that had begun before
		}
		open := raw.now - sinceTick(raw.now, uint64(raw.word))
		atomic.AddUint64(&p.rec.Time[cell(raw.word.state(), raw.word.thread())], open)
		p.rec.Birth += now - raw.now
		o.scratch = o.take(o.scratch[:0], p, raw, true)
		if len(o.scratch) > 0 {
			o.c.o.Sink.Append(o.info.Key, o.scratch)
		}
		p.lastEnd = max(now, p.lastEnd)
		p.disagreed = false
		if w := p.windowed; w != nil {
			w.look(p.rec, nil)
			w.schedTick, w.syscallTick, w.state, w.tid = p.schedTick.low, p.syscallTick.low, s, owner
			w.from = now
		}
		return
	}
}

// totalsAt gives a record's times at a tick, or at its last change if that came later.
func totalsAt(r *kern.ScopeP_record, at uint64) (v totals) {
	v.word = word(atomic.LoadUint64(&r.Word))
	for i := range v.time {
		v.time[i] = atomic.LoadUint64(&r.Time[i])
	}
	since := sinceTick(at, uint64(v.word))
	v.now = max(at, since)
	v.time[cell(v.word.state(), v.word.thread())] += v.now - since
	return v
}

// threadsAfter gives the target's threads as they are now, with their times as they were at the tick from.
func (o *observed) threadsAfter(from uint64) map[uint32]kern.ScopeThread {
	known, now := o.knownThreads(), nowTick()
	for tid, th := range known {
		state, _, err := o.threadState(int32(tid))
		if err != nil {
			o.c.kernel.threads.remove(tid) // it has ended
			delete(known, tid)
			continue
		}
		addThreadTime(&th, word(th.Word).thread(), elapsed(from, th.Word))
		th.Word = uint64(wordOf(now, 0, 0, state))
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
