package ledger

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// AddThreadTime adds to the ticks that a thread has spent in a state. An entry that is just being made is in none, and
// no time counts for that (thread_move in bpf/account.h).
func AddThreadTime(th *kern.ScopeThread, s pstate.ThreadState, ticks uint64) {
	if s != pstate.NoThread {
		atomic.AddUint64(&th.Time[s-1], ticks)
	}
}

// EnterD enters one more thread into a P's count of those in uninterruptible sleep. since is the tick from which on it
// counts if it is the only one.
func EnterD(r *kern.ScopeP_record, since uint64) {
	for {
		d := atomic.LoadUint64(&r.D_word)
		next := d + 1<<SinceBits
		if d>>SinceBits == 0 {
			next = 1<<SinceBits | since&SinceMask
		}
		if atomic.CompareAndSwapUint64(&r.D_word, d, next) {
			return
		}
	}
}

// RetractD takes back what countD has just done.
func RetractD(r *kern.ScopeP_record) {
	atomic.AddUint64(&r.D_word, ^uint64(1<<SinceBits-1)) // all ones above the count's lowest bit: minus one
}

// EndD ends a P's count of threads in uninterruptible sleep at the tick now.
func EndD(r *kern.ScopeP_record, now uint64) {
	for {
		d := atomic.LoadUint64(&r.D_word)
		if d>>SinceBits == 0 {
			return
		}
		if atomic.CompareAndSwapUint64(&r.D_word, d, now&SinceMask) {
			atomic.AddUint64(&r.D_time, Elapsed(now, d))
			return
		}
	}
}

// SetD makes a P's count say whether any of its threads is in uninterruptible sleep, where no event does.
func SetD(r *kern.ScopeP_record, asleep bool, now uint64) {
	switch counted := atomic.LoadUint64(&r.D_word)>>SinceBits != 0; {
	case asleep && !counted:
		EnterD(r, now)
	case !asleep && counted:
		EndD(r, now)
	}
}

// RenewD writes a P's count of threads in uninterruptible sleep anew.
func RenewD(r *kern.ScopeP_record, now uint64) {
	d := atomic.LoadUint64(&r.D_word)
	gone := Elapsed(now, d)
	if d>>SinceBits == 0 || gone < renewAfter {
		return
	}
	if atomic.CompareAndSwapUint64(&r.D_word, d, d&^SinceMask|now&SinceMask) {
		atomic.AddUint64(&r.D_time, gone)
	}
}
