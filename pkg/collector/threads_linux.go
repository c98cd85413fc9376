package collector

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// readThreads brings the threads of every target up to date.
func (c *collect) readThreads() {
	if c.kernel == nil {
		return
	}
	byIndex := c.indexed()
	var stuck []stuckThread
	threads := make(map[uint32][]pstate.ThreadView, len(byIndex))
	counted := map[uint32]uint64{} // threads in uninterruptible sleep by the slot, plus one, of the P whose count they are in
	now := nowTick()
	if c.heart.beyond(now) {
		return
	}
	c.kernel.threads.each(func(tid uint32, th *kern.ScopeThread) {
		o := byIndex.at(th.Target)
		if o == nil || th.Tgid != uint32(o.info.PID) {
			return
		}
		threads[th.Target] = append(threads[th.Target], c.threadView(tid, th, now))
		if th.D_slot != 0 {
			counted[th.D_slot]++
		}
		if th.D_slot == 0 && word(th.Word).thread() == pstate.Uninterruptible && elapsed(now, th.Word) > settled {
			stuck = append(stuck, stuckThread{o, tid, th.Word})
		}
	})
	c.shareThreads(func(o *observed) int { return len(threads[o.index]) })
	for i, o := range byIndex {
		if o == nil {
			continue
		}
		o.mu.Lock()
		if !o.windows.between { // what the last window showed stays
			o.threads, o.threadsAt = threads[uint32(i)], c.clock.unix(now)
		}
		if !o.closed && o.seen() { // without the kernel side no thread is known, and snapshots count
			o.recount(counted, now)
		}
		o.mu.Unlock()
	}
	for _, s := range stuck {
		s.o.countStuck(s.tid, s.word, now)
	}
}

// addThreadTime adds to the ticks that a thread has spent in a state. An entry that is just being made is in none, and
// no time counts for that (thread_move in bpf/account.h).
func addThreadTime(th *kern.ScopeThread, s pstate.ThreadState, ticks uint64) {
	if s != pstate.NoThread {
		atomic.AddUint64(&th.Time[s-1], ticks)
	}
}

// countD enters one more thread into a P's count of those in uninterruptible sleep. since is the tick from which on it counts if it is the only one.
func countD(r *kern.ScopeP_record, since uint64) {
	for {
		d := atomic.LoadUint64(&r.D_word)
		next := d + 1<<sinceBits
		if d>>sinceBits == 0 {
			next = 1<<sinceBits | since&sinceMask
		}
		if atomic.CompareAndSwapUint64(&r.D_word, d, next) {
			return
		}
	}
}

// oneLessInD takes back what countD has just done.
func oneLessInD(r *kern.ScopeP_record) {
	atomic.AddUint64(&r.D_word, ^uint64(1<<sinceBits-1)) // all ones above the count's lowest bit: minus one
}

// uncountD ends a P's count of threads in uninterruptible sleep at the tick now.
func uncountD(r *kern.ScopeP_record, now uint64) {
	for {
		d := atomic.LoadUint64(&r.D_word)
		if d>>sinceBits == 0 {
			return
		}
		if atomic.CompareAndSwapUint64(&r.D_word, d, now&sinceMask) {
			atomic.AddUint64(&r.D_time, elapsed(now, d))
			return
		}
	}
}

// lookedUpD makes a P's count say whether any of its threads is in uninterruptible sleep, where no event does.
func lookedUpD(r *kern.ScopeP_record, asleep bool, now uint64) {
	switch counted := atomic.LoadUint64(&r.D_word)>>sinceBits != 0; {
	case asleep && !counted:
		countD(r, now)
	case !asleep && counted:
		uncountD(r, now)
	}
}

// uncountD ends the counts of all Ps, before who counts is another: the kernel side or the snapshots. The caller holds mu.
func (o *observed) uncountD() {
	now := nowTick()
	for _, p := range o.ps {
		uncountD(p.rec, now)
		p.overcounted = 0
	}
}

// recount corrects a P's count of threads in uninterruptible sleep that has been higher than the threads say, and the same, for two reads: an event of
// one of them was missed, and the count would never come down again. The caller holds mu.
func (o *observed) recount(counted map[uint32]uint64, now uint64) {
	for _, p := range o.ps {
		d := atomic.LoadUint64(&p.rec.D_word)
		n := counted[uint32(o.slot(p.id))+1]
		if d>>sinceBits <= n {
			p.overcounted = 0
			continue
		}
		if p.overcounted != d {
			p.overcounted = d
			continue
		}
		p.overcounted = 0
		next := n<<sinceBits | d&sinceMask
		if n == 0 {
			next = now & sinceMask
		}
		if atomic.CompareAndSwapUint64(&p.rec.D_word, d, next) {
			if n == 0 {
				atomic.AddUint64(&p.rec.D_time, elapsed(now, d)) // it has been exported already, and what is exported never decreases
			}
			o.repaired["overcounted_uninterruptible"]++
		}
	}
}

// stuckThread is a thread that has been in uninterruptible sleep for a while and is in no P's count of such threads.
type stuckThread struct {
	o    *observed
	tid  uint32
	word uint64 // as it was read
}

// settled is how long a disagreement must last before it is repaired, in ticks: half a second.
const settled = uint64(500_000_000) >> tickShift

// countStuck enters a stuck thread into the count of its P: the thread went to sleep while its target was being entered, so that no event
// said which P it had.
func (o *observed) countStuck(tid uint32, asleep, now uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || !o.seen() {
		return
	}
	th := o.c.kernel.threads.find(tid)
	if th == nil || atomic.LoadUint64(&th.Word) != asleep {
		return // it has woken
	}
	for _, p := range o.ps {
		w := word(atomic.LoadUint64(&p.rec.Word))
		slot := uint32(o.slot(p.id)) + 1
		if w.owner() != tid && th.LastSlot != slot {
			continue
		}
		// It is counted before its entry says so: who finds the entry saying so takes it back. Should the thread wake in this very moment,
		// its next switch corrects what is then wrong.
		countD(p.rec, asleep)
		th.LastSlot = slot
		if w.owner() == tid {
			th.Slot = slot
		}
		atomic.StoreUint32(&th.D_slot, slot)
		if w.owner() == tid && w.thread() != pstate.Uninterruptible {
			closed, _ := swap(p.rec, w, now, tid, w.state(), pstate.Uninterruptible, 0)
			o.keep(p, closed[:]...)
		}
		o.repaired["missed_uninterruptible"]++
		return
	}
}

func (c *collect) threadView(tid uint32, th *kern.ScopeThread, now uint64) pstate.ThreadView {
	w := word(th.Word)
	v := pstate.ThreadView{
		TID: int32(tid), P: -1, State: w.thread(), Since: c.clock.unix(c.renewed[tid].of(th.Word, sinceTick(now, th.Word))),
		Comm: cleantext.Name(unix.ByteSliceToString(unsafe.Slice((*byte)(unsafe.Pointer(&th.Comm[0])), len(th.Comm))), cleantext.MaxName),
	}
	if s := th.LastSlot; s > 0 && int(s)-1 < len(c.kernel.records) {
		v.P = int32(c.kernel.records[s-1].Id)
	}
	for i, t := range th.Time {
		v.Time[i+1] = time.Duration(t) * tick
	}
	v.Time[v.State] += time.Duration(elapsed(now, th.Word)) * tick
	return v
}

// sweepThreads removes the entries of threads whose target is gone: those that exited before their target was entered, and those of
// targets the agent gave up while they lived.
func (c *collect) sweepThreads() {
	if c.kernel == nil {
		return
	}
	byIndex := c.indexed()
	c.kernel.threads.removeIf(func(th *kern.ScopeThread) bool {
		o := byIndex.at(th.Target)
		return o == nil || th.Tgid != uint32(o.info.PID)
	})
}
