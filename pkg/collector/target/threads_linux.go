package target

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// SetThreads takes in the target's threads as they are in the table at the tick now, and counted, which has the threads
// in uninterruptible sleep by the slot, plus one, of the P whose count they are in.
func (o *Target) SetThreads(threads []pstate.ThreadView, counted map[uint32]uint64, now uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.cycle.off { // what the last observed second showed stays
		o.threads, o.threadsAt = threads, o.env.Clock.Unix(now)
	}
	if !o.closed && o.seen() { // without the kernel side no thread is known, and snapshots count
		o.recount(counted, now)
	}
}

// uncountD ends the counts of all Ps, before who counts is another: the kernel side or the snapshots. The caller holds
// mu.
func (o *Target) uncountD() {
	now := ledger.Now()
	for _, p := range o.ps {
		ledger.EndD(p.rec, now)
		p.overcounted = 0
	}
}

// recount corrects a P's count of threads in uninterruptible sleep that has been higher than the threads say, and the
// same, for two reads: an event of one of them was missed, and the count would never come down again. The caller holds
// mu.
func (o *Target) recount(counted map[uint32]uint64, now uint64) {
	for _, p := range o.ps {
		d := atomic.LoadUint64(&p.rec.D_word)
		n := counted[uint32(o.slot(p.id))+1]
		if d>>ledger.SinceBits <= n {
			p.overcounted = 0
			continue
		}
		if p.overcounted != d {
			p.overcounted = d
			continue
		}
		p.overcounted = 0
		next := n<<ledger.SinceBits | d&ledger.SinceMask
		if n == 0 {
			next = now & ledger.SinceMask
		}
		if atomic.CompareAndSwapUint64(&p.rec.D_word, d, next) {
			if n == 0 {
				// It has been exported already, and what is exported never decreases.
				atomic.AddUint64(&p.rec.D_time, ledger.Elapsed(now, d))
			}
			o.repaired["overcounted_uninterruptible"]++
		}
	}
}

// SettledAfter is how long a disagreement must last before it is repaired, in ticks: half a second.
const SettledAfter = uint64(500_000_000) >> ledger.TickShift

// CountStuck enters a stuck thread into the count of its P: the thread went to sleep while its target was being
// entered, so that no event said which P it had.
func (o *Target) CountStuck(tid uint32, asleep, now uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || !o.seen() {
		return
	}
	th := o.kernel.Threads.Find(tid)
	if th == nil || atomic.LoadUint64(&th.Word) != asleep {
		return // it has woken
	}
	for _, p := range o.ps {
		w := ledger.Word(atomic.LoadUint64(&p.rec.Word))
		slot := uint32(o.slot(p.id)) + 1
		if w.Owner() != tid && th.LastSlot != slot {
			continue
		}
		// It is counted before its entry says so: who finds the entry saying so takes it back. Should the thread wake
		// in this very moment, its next switch corrects what is then wrong.
		ledger.EnterD(p.rec, asleep)
		th.LastSlot = slot
		if w.Owner() == tid {
			th.Slot = slot
		}
		atomic.StoreUint32(&th.D_slot, slot)
		if w.Owner() == tid && w.Thread() != pstate.Uninterruptible {
			closed, _ := ledger.Swap(p.rec, w, now, tid, w.State(), pstate.Uninterruptible, 0)
			o.keep(p, closed[:]...)
		}
		o.repaired["missed_uninterruptible"]++
		return
	}
}
