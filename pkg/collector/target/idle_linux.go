package target

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/govern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// idleWatch says when a snapshot of an idle target may be left out.
//
// Whatever a target begins to do ends in a switch of one of its threads, and that changes the word of a P. As long as
// no word changes, nothing is read. Where words have changed but all Ps are idle again, one look at the runtime's own
// count of idle Ps says whether that is so: a thread that is on a CPU may have taken a P without an event. In the
// periods in which nothing was read, the depths of all queues were zero; they are counted later.
type idleWatch struct {
	govern.Skips
	words   []uint64 // of the Ps at the last look
	touched []bool   // those that were others at the look before
	stale   bool     // something has run since the last snapshot: the ticks of the Ps are behind
	readAt  uint64   // tick of the last snapshot
}

// lookAtWords reads the words of all Ps and says whether all are idle, and whether that is all that happened since the
// last time.
func (o *Target) lookAtWords() (idle, untouched bool) {
	r := &o.idle
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
		state, thread := ledger.Word(w).State(), ledger.Word(w).Thread()
		rests := (state == pstate.Idle || state == pstate.Dead) && thread == pstate.NoThread
		idle = idle && rests && !p.disagreed
	}
	return idle, untouched
}

// leaveOut says whether the snapshot that is due can be left out, n periods after the last time, and does what remains
// to be done. The caller holds mu.
func (o *Target) leaveOut(n int) bool {
	r := &o.idle
	idle, untouched := o.lookAtWords()
	if mayLook := r.MayLook(n); !mayLook || !idle || o.cycle.on && ledger.Now() >= o.cycle.next {
		return false
	}
	if r.Skip(n, untouched) {
		return true
	}
	globalRunq, idle := o.proc.AllIdle(len(o.snap.Ps))
	if !idle {
		return false
	}
	o.countUnread(r.Looked(n))
	r.stale = r.stale || !untouched
	o.globalRunq = globalRunq
	o.countGlobal(n)
	for i, p := range o.ps {
		if ledger.Word(r.words[i]).State() == pstate.Idle {
			p.runqDepth = 0
			p.runqHist[pstate.RunqBucket(0)] += uint64(n)
		}
	}
	o.learnLags(ledger.Now())
	return true
}

// countUnread counts the depths of so many periods in which nothing was read. A P that has run since may have begun
// before the last of them.
func (o *Target) countUnread(periods int) {
	r := &o.idle
	o.countGlobal(periods)
	for i, p := range o.ps {
		n := periods
		if r.touched[i] {
			n--
		}
		if n > 0 && ledger.Word(r.words[i]).State() != pstate.Dead {
			p.runqHist[pstate.RunqBucket(0)] += uint64(n)
		}
	}
}

// bringUp reads the runtime's own counters for somebody who wants to know them now, if they may have moved since the
// last snapshot and that is a period ago. It repairs nothing: that is up to the snapshots, which come at a steady pace.
// The caller holds mu.
func (o *Target) bringUp() {
	r := &o.idle
	now := ledger.Now()
	if !o.seen() || now-r.readAt < uint64(o.env.SnapshotEvery/ledger.Tick) {
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
		r.Require() // the snapshot that comes next finds out
		return
	}
	r.readAt, r.stale = now, false
	o.gomaxprocs, o.globalRunq = o.snap.GOMAXPROCS, o.snap.Sched.RunqSize
	for i := range min(len(o.ps), had) {
		if seen := &o.snap.Ps[i]; seen.OK {
			o.ps[i].count(seen)
		}
	}
}

// count takes what the runtime counts itself.
func (p *P) count(seen *process.PSnapshot) {
	p.schedTick.follow(seen.SchedTick)
	p.syscallTick.follow(seen.SyscallTick)
	p.runqDepth = seen.RunqDepth
}
