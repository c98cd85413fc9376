package collector

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// addThreadTime adds to the ticks that a thread has spent in a state. An entry that is just being made is in none, and
// no time counts for that (thread_move in bpf/account.h).
func addThreadTime(th *kern.ScopeThread, s pstate.ThreadState, ticks uint64) {
	if s != pstate.NoThread {
		atomic.AddUint64(&th.Time[s-1], ticks)
	}
}

// countD enters one more thread into a P's count of those in uninterruptible sleep. since is the tick from which on it
// counts if it is the only one.
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

// renewD writes a P's count of threads in uninterruptible sleep anew.
func renewD(r *kern.ScopeP_record, now uint64) {
	d := atomic.LoadUint64(&r.D_word)
	gone := elapsed(now, d)
	if d>>sinceBits == 0 || gone < renewAfter {
		return
	}
	if atomic.CompareAndSwapUint64(&r.D_word, d, d&^sinceMask|now&sinceMask) {
		atomic.AddUint64(&r.D_time, gone)
	}
}
