package target

import (
	"errors"
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Snapshot reads the runtime's own structures, n periods after the last time, and repairs the records that disagree
// with them. An error means that the target can no longer be observed.
func (o *Target) Snapshot(n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	if o.leaveOut(n) {
		o.flush(false)
		return nil
	}
	before := o.idle.words
	if err := o.proc.Snapshot(&o.snap, false); err != nil {
		if errors.Is(err, refusal.ErrTorn) {
			o.lost[loss.TornSnapshot]++
			return nil
		}
		return err
	}
	now := ledger.Now()
	if o.env.Heart.Beyond(now) {
		return nil
	}
	o.countUnread(o.idle.Snapshot())
	o.idle.stale, o.idle.readAt = false, now
	o.gomaxprocs, o.globalRunq = o.snap.GOMAXPROCS, o.snap.Sched.RunqSize
	o.countGlobal(n)
	o.follow()
	idle := o.idlePs()
	for i, p := range o.ps {
		if i >= len(o.snap.Ps) {
			o.markDead(p, now) // GOMAXPROCS went down: procresize cuts allp (runtime/proc.go)
			continue
		}
		seen := &o.snap.Ps[i]
		if !seen.OK {
			o.lost[loss.UnreadableP]++
			continue
		}
		p.count(seen)
		p.countDepth(seen, idle, n)
		var word ledger.Word
		known := i < len(before)
		if known {
			word = ledger.Word(before[i])
		}
		o.reconcile(p, seen, word, known, now)
	}
	if err := o.turnCycle(now); err != nil && !errors.Is(err, refusal.ErrTorn) {
		return err
	}
	if o.index != 0 {
		o.learnLags(now)
	}
	o.flush(false)
	return nil
}

// follow makes records for Ps that are new in the snapshot.
func (o *Target) follow() {
	if len(o.snap.Ps) <= len(o.ps) {
		return
	}
	err := o.grow()
	if err == nil {
		return
	}
	o.lost[loss.NoRoom]++
	if n := len(o.snap.Ps); n != o.unplacedPs { // once for each number of Ps, not with each snapshot
		o.unplacedPs = n
		o.env.Log.Warn("not every P is observed", "process", o.info.Process, "pid", o.info.PID, "err", err)
	}
}

// idlePs is how many Ps of the snapshot could take what others have queued: none while the process is suspended.
func (o *Target) idlePs() (n int) {
	if o.suspended() {
		return 0
	}
	for i := range o.snap.Ps {
		if o.snap.Ps[i].OK && o.snap.Ps[i].State == pstate.Idle {
			n++
		}
	}
	return n
}

// reconcile makes the record of a P agree with a snapshot. before is the P's word before the snapshot, if that is
// known.
func (o *Target) reconcile(p *P, seen *process.PSnapshot, before ledger.Word, known bool, now uint64) {
	if seen.Addr != atomic.LoadUint64(&p.rec.Addr) {
		atomic.StoreUint64(&p.rec.Addr, seen.Addr)
		if o.index != 0 {
			kernel.EnterAddress(o.shared, o.slot(p.id), seen.Addr)
		}
	}
	if seen.State == pstate.GC && o.index != 0 {
		kernel.MarkWorkerSeen(o.shared, now)
	}
	switch {
	case o.index == 0 || o.blind:
		o.takeOver(p, seen, now)
	case o.cycle.off:
		o.estimateP(p, seen, now)
	default:
		if known {
			o.repair(p, seen, before, now)
		}
		o.learn(p, seen)
	}
}

// countGlobal counts the depth of the global run queue as it was seen in n looks. The caller holds mu.
func (o *Target) countGlobal(n int) {
	if o.globalRunq >= 0 && n > 0 {
		o.globalN += uint64(n)
		o.globalSum += uint64(n) * uint64(o.globalRunq)
	}
}

// countDepth counts the depth of a P's run queue in a snapshot in which so many Ps were idle. It stands for the n
// periods since the look before: looks are further apart while a program rests, and would else count for less.
func (p *P) countDepth(seen *process.PSnapshot, idle, n int) {
	if seen.RunqDepth < 0 {
		return
	}
	weight := uint64(n)
	p.runqHist[pstate.RunqBucket(seen.RunqDepth)] += weight
	p.runqSum += weight * uint64(seen.RunqDepth)
	if seen.State == pstate.Idle {
		idle-- // itself
	}
	if seen.RunqDepth > 0 && idle > 0 {
		p.runqIdle += weight
		p.runqIdleSum += weight * uint64(seen.RunqDepth)
	}
}

// markDead marks a P that is beyond GOMAXPROCS.
func (o *Target) markDead(p *P, now uint64) {
	p.runqDepth = -1
	if w := ledger.Word(atomic.LoadUint64(&p.rec.Word)); w.State() != pstate.Dead {
		closed, _ := ledger.Swap(p.rec, w, now, 0, pstate.Dead, pstate.NoThread, 0)
		o.keep(p, closed[:]...)
	}
}

// takeOver is snapshot mode: what is seen holds from now until the next look.
func (o *Target) takeOver(p *P, seen *process.PSnapshot, now uint64) {
	owner, s, t := o.sight(seen)
	ledger.SetD(p.rec, t == pstate.Uninterruptible, now)
	old := ledger.Word(p.rec.Word)
	if old.Owner() == owner && old.State() == s && old.Thread() == t {
		return
	}
	closed, _ := ledger.Swap(p.rec, old, now, owner, s, t, 0)
	o.keep(p, closed[:]...)
}

// repair compares a record with a snapshot. Only a P whose word did not change while the snapshot was read can be
// judged, and only what holds for two snapshots in a row is a disagreement: between an act of the runtime and the event
// that tells of it there is always a moment.
func (o *Target) repair(p *P, seen *process.PSnapshot, before ledger.Word, now uint64) {
	w := ledger.Word(atomic.LoadUint64(&p.rec.Word))
	if w != before {
		p.disagreed = false
		return
	}
	reason, owner, s, t, tookAt := o.judge(w, seen)
	if reason == "" && o.untracked(w) {
		// The table of threads is full: no event tells what this P's thread does, and the snapshot is all there is.
		if owner, s, t = o.sight(seen); owner == w.Owner() && (s != w.State() || t != w.Thread()) {
			reason = "untracked_thread"
		}
	}
	if reason == "" {
		p.disagreed = false
		return
	}
	if !p.disagreed {
		p.disagreed = true
		return
	}
	p.disagreed = false
	if owner != 0 && t == pstate.OnCPU {
		if th, ok := o.thread(owner); ok {
			t, tookAt = ledger.Word(th.Word).Thread(), th.SwitchIn
		} else if ts, _, err := o.threadState(int32(owner)); err == nil {
			t = ts
		} else {
			return // it has ended
		}
		if t == pstate.NoThread {
			return
		}
		if t != pstate.OnCPU {
			tookAt = 0
		}
	}
	closed, ok := ledger.Swap(p.rec, w, now, owner, s, t, tookAt)
	if !ok {
		return
	}
	o.keep(p, closed[:]...)
	o.repaired[reason]++
}

// untracked says whether a P's thread has no entry in the table of threads, because that is full.
func (o *Target) untracked(w ledger.Word) bool {
	full := atomic.LoadUint64(&o.shared.Lost[kern.ScopeLostReasonLOST_THREADS_FULL]) + o.lost[loss.ThreadsFull]
	if w.Owner() == 0 || full == 0 {
		return false
	}
	_, ok := o.thread(w.Owner())
	return !ok
}

// judge says what is wrong with a record, if anything, and what it should be.
func (o *Target) judge(w ledger.Word, seen *process.PSnapshot) (reason string, owner uint32, s pstate.State,
	t pstate.ThreadState, tookAt uint64) {
	tid := o.carrier(seen)
	switch pstate.State(seen.Status) {
	case pstate.Dead:
		if w.State() != pstate.Dead {
			return "dead", 0, pstate.Dead, pstate.NoThread, 0
		}
	case pstate.Idle:
		if w.State() != pstate.Idle {
			return "missed_idle", 0, pstate.Idle, pstate.NoThread, 0
		}
	case pstate.GCStop:
		stopping := atomic.LoadUint64(&o.shared.StopStart) != 0
		if w.State() != pstate.GCStop && stopping && atomic.LoadUint32(&o.shared.StopTid) != tid {
			return "missed_halt", 0, pstate.GCStop, pstate.NoThread, 0
		}
	default:
		if tid == 0 {
			return // between two Ms
		}
		s = seen.State
		switch {
		case w.State() == pstate.Idle || w.State() == pstate.GCStop || w.State() == pstate.Dead:
			return "missed_take", tid, s, pstate.OnCPU, 0
		case w.Owner() != tid:
			return "other_thread", tid, s, pstate.OnCPU, 0
		}
	}
	return
}

// flush hands closed intervals to the sink, in order and without overlap, and fills what is missing between them with
// what the totals say. The caller holds mu.
func (o *Target) flush(last bool) {
	if scope := o.scope(); scope.Events && !scope.Intervals {
		o.lost[loss.IntervalBudget] += uint64(len(o.ps)) // the budget is nothing: one for each P and snapshot
	}
	o.scratch = o.scratch[:0]
	now := ledger.Now()
	for _, p := range o.ps {
		if !last && !p.intervals.Due(now) {
			continue
		}
		raw, _ := ledger.Read(p.rec)
		if o.env.Heart.Beyond(raw.Now) {
			break
		}
		o.take(p, &raw, last)
	}
	if len(o.scratch) > 0 {
		o.env.Sink.Append(o.info.Key, o.scratch)
	}
}

// thread reads one thread's entry.
func (o *Target) thread(tid uint32) (th kern.ScopeThread, ok bool) {
	entry := o.kernel.Threads.Find(tid)
	if entry == nil || entry.Target != o.index {
		return th, false
	}
	return *entry, true
}
