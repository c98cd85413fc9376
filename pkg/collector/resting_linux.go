package collector

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Most targets have nothing to do most of the time, and then a snapshot shows nothing that is not known already. resting says when one may be left out.
//
// Whatever a target begins to do ends in a switch of one of its threads, and that changes the word of a P. As long as no word changes, nothing is read.
// Where words have changed but all Ps are idle again, one look at the runtime's own count of idle Ps says whether that is so: a thread that is on a CPU
// may have taken a P without having been seen to.
type resting struct {
	words     []uint64 // of the Ps at the last look
	touched   []bool   // those that were others at the look before
	since     int      // periods since the last snapshot
	uncounted int      // periods since the last look of which the depths of the queues, all zero, have not been counted yet
	untouched bool     // the last period passed without a look
	stale     bool     // something has run since the last snapshot: the ticks of the Ps are behind
	snapAt    uint64   // tick of the last snapshot
}

const (
	restingSkips = 9  // periods in a row in which nothing is read: one look a second remains
	restingMost  = 49 // periods in a row without a snapshot, however often a look has shown that none is needed
)

// lookAtWords reads the words of all Ps and says whether all are idle, and whether that is all that happened since the last time.
func (o *observed) lookAtWords() (idle, untouched bool) {
	r := &o.resting
	known := len(r.words)
	idle, untouched = o.seen(), known == len(o.ps)
	for i, p := range o.ps {
		w := atomic.LoadUint64(&p.rec.Word)
		if i >= known {
			r.words, r.touched = append(r.words, w), append(r.touched, true)
		}
		r.touched[i] = r.touched[i] && i >= known || w != r.words[i]
		r.words[i] = w
		untouched = untouched && !r.touched[i]
		state := word(w).state()
		idle = idle && (state == pstate.Idle || state == pstate.Dead) && word(w).thread() == pstate.NoThread && !p.disagreed
	}
	return idle, untouched
}

// leaveOut says whether the snapshot that is due can be left out, n periods after the last time, and does what remains to be done. The caller holds mu.
func (o *observed) leaveOut(n int) bool {
	r := &o.resting
	idle, untouched := o.lookAtWords()
	r.untouched = false
	if !idle || r.since+n > restingMost || o.windows.on && nowTick() >= o.windows.turn {
		return false
	}
	if untouched && r.uncounted+n <= restingSkips {
		r.since, r.uncounted, r.untouched = r.since+n, r.uncounted+n, true
		return true
	}
	globalRunq, idle := o.proc.AllIdle(len(o.snap.Ps))
	if !idle {
		return false
	}
	o.countUncounted()
	r.since, r.stale = r.since+n, r.stale || !untouched
	o.globalRunq = globalRunq
	o.countGlobal(n)
	for i, p := range o.ps {
		if word(r.words[i]).state() == pstate.Idle {
			p.runqDepth = 0
			p.runqHist[pstate.RunqBucket(0)] += uint64(n)
		}
	}
	o.learnLags(nowTick())
	return true
}

// countUncounted counts the depths of the periods in which nothing was read. A P that has run since may have begun before the last of them.
func (o *observed) countUncounted() {
	r := &o.resting
	o.countGlobal(r.uncounted)
	for i, p := range o.ps {
		n := r.uncounted
		if r.touched[i] {
			n--
		}
		if n > 0 && word(r.words[i]).state() != pstate.Dead {
			p.runqHist[pstate.RunqBucket(0)] += uint64(n)
		}
	}
	r.uncounted = 0
}

// bringUp reads the runtime's own counters for somebody who wants to know them now, if they may have moved since the last snapshot and that is a period
// ago. It repairs nothing: that is up to the snapshots, which come at a steady pace. The caller holds mu.
func (o *observed) bringUp() {
	r := &o.resting
	now := nowTick()
	if !o.seen() || now-r.snapAt < uint64(o.c.o.SnapshotEvery/tick) {
		return
	}
	stale := r.stale || len(r.words) != len(o.ps)
	for i := 0; !stale && i < len(o.ps); i++ {
		stale = atomic.LoadUint64(&o.ps[i].rec.Word) != r.words[i]
	}
	if !stale {
		return
	}
	had := len(o.snap.Ps)
	if o.proc.Snapshot(&o.snap, false) != nil || len(o.snap.Ps) != had {
		r.since = restingMost // the snapshot that comes next finds out
		return
	}
	r.snapAt, r.stale = now, false
	o.gomaxprocs, o.globalRunq = o.snap.GOMAXPROCS, o.snap.Sched.RunqSize
	for i := range min(len(o.ps), had) {
		if seen := &o.snap.Ps[i]; seen.OK {
			o.ps[i].see(seen)
		}
	}
}

// see takes what the runtime counts itself.
func (p *observedP) see(seen *process.PSnapshot) {
	p.schedTick.see(seen.SchedTick)
	p.syscallTick.see(seen.SyscallTick)
	p.runqDepth = seen.RunqDepth
}
