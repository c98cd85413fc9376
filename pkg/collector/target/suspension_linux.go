package target

import (
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// ReadCgroup brings what the control groups of the target say up to date.
func (o *Target) ReadCgroup(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || !o.control.find(now) {
		return
	}
	o.control.read(now)
	if o.seen() {
		o.applyFreezer(now)
	}
	o.findCause(now)
}

// threadState reads the state and the name of one of the target's threads. The caller holds mu or is alone.
func (o *Target) threadState(tid int32) (pstate.ThreadState, string, error) {
	return o.control.threadState(tid)
}

// suspended says whether a thread that carries a P is stopped or frozen. The caller holds mu.
func (o *Target) suspended() bool { return o.carrierIn(pstate.ThreadState.Suspended) != 0 }

// carrierIn gives a thread that carries a P and is in such a state; 0 if there is none.
func (o *Target) carrierIn(is func(pstate.ThreadState) bool) int32 {
	for _, p := range o.ps {
		if w := ledger.Word(atomic.LoadUint64(&p.rec.Word)); is(w.Thread()) {
			return int32(w.Owner())
		}
	}
	return 0
}

// threadIn is carrierIn for all threads that are known.
func (o *Target) threadIn(state pstate.ThreadState) (tid int32, found bool) {
	if tid = o.carrierIn(func(s pstate.ThreadState) bool { return s == state }); tid != 0 {
		return tid, true
	}
	for i := range o.threads {
		if o.threads[i].State == state {
			return o.threads[i].TID, true
		}
	}
	return 0, false
}

// applyFreezer makes threads, and the Ps they carry, say what the freezer did to them without an event. The caller
// holds mu.
func (o *Target) applyFreezer(now time.Time) {
	if o.control.frozen(now, freezerEvery) {
		o.correctThreads(func(s pstate.ThreadState) bool { return s == pstate.Sleeping || s == pstate.Uninterruptible },
			func(int32) (pstate.ThreadState, bool) { return pstate.Frozen, true })
		return
	}
	if _, found := o.threadIn(pstate.Frozen); !found {
		return
	}
	if !o.control.thawed(now) {
		return
	}
	o.correctThreads(
		func(s pstate.ThreadState) bool { return s == pstate.Frozen },
		func(tid int32) (pstate.ThreadState, bool) {
			s, _, err := o.threadState(tid)
			// One that runs has woken, or will: an event says so.
			return s, err == nil && (s == pstate.Sleeping || s == pstate.Uninterruptible)
		},
	)
}

// correctThreads moves threads that have been in such a state for a while to the one that is given. The caller holds
// mu.
func (o *Target) correctThreads(is func(pstate.ThreadState) bool, to func(tid int32) (pstate.ThreadState, bool)) {
	for i := range o.threads {
		view := &o.threads[i]
		if !is(view.State) {
			continue
		}
		th := o.kernel.Threads.Find(uint32(view.TID))
		if th == nil || th.Target != o.index {
			continue
		}
		old, now := atomic.LoadUint64(&th.Word), ledger.Now()
		if s := ledger.Word(old).Thread(); !is(s) || ledger.Elapsed(now, old) < SettledAfter/4 {
			continue
		}
		next, ok := to(view.TID)
		if !ok {
			continue
		}
		gone := ledger.Elapsed(now, old)
		if !atomic.CompareAndSwapUint64(&th.Word, old, uint64(ledger.NewWord(now, 0, 0, next))) {
			continue // it has just been woken
		}
		ledger.AddThreadTime(th, ledger.Word(old).Thread(), gone)
		o.leaveD(th, now)
		o.correctP(uint32(view.TID), is, next, now)
		view.Time[view.State] += time.Duration(max(0, o.env.Clock.Unix(now)-o.threadsAt))
		view.State, view.Since = next, o.env.Clock.Unix(now)
		o.repaired["freezer"]++
	}
}

// correctP moves the P that a thread carries along with it.
func (o *Target) correctP(tid uint32, is func(pstate.ThreadState) bool, next pstate.ThreadState, now uint64) {
	for _, p := range o.ps {
		w := ledger.Word(atomic.LoadUint64(&p.rec.Word))
		if w.Owner() == tid && is(w.Thread()) && w.State().Busy() {
			closed, _ := ledger.Swap(p.rec, w, now, tid, w.State(), next, 0)
			o.keep(p, closed[:]...)
		}
	}
}

// leaveD takes a thread out of its P's count of those in uninterruptible sleep, if it is in it (d_leave in
// bpf/observe.h).
func (o *Target) leaveD(th *kern.ScopeThread, now uint64) {
	slot := atomic.LoadUint32(&th.D_slot)
	if slot == 0 || int(slot)-1 >= len(o.kernel.Records) || !atomic.CompareAndSwapUint32(&th.D_slot, slot, 0) {
		return
	}
	r := &o.kernel.Records[slot-1]
	for {
		d := atomic.LoadUint64(&r.D_word)
		n := d >> ledger.SinceBits
		next := d - 1<<ledger.SinceBits
		if n == 0 {
			return
		}
		if n == 1 {
			next = now & ledger.SinceMask
		}
		if atomic.CompareAndSwapUint64(&r.D_word, d, next) {
			if n == 1 {
				atomic.AddUint64(&r.D_time, ledger.Elapsed(now, d))
			}
			return
		}
	}
}

// findCause finds out what keeps threads that are stopped or frozen from running. The caller holds mu.
func (o *Target) findCause(now time.Time) {
	if tid, found := o.threadIn(pstate.Stopped); found {
		o.control.findStopper(tid, now)
	}
	if _, found := o.threadIn(pstate.Frozen); found {
		o.control.findFreezer(now)
	}
}
