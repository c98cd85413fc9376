package collector

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// word is a P's or a thread's state word; bpf/types.h says how it is made up and why.
type word uint64

const (
	ownerShift  = kern.ScopeWordBitsOWNER_SHIFT
	ownerMask   = 1<<kern.ScopeWordBitsOWNER_BITS - 1
	stateShift  = kern.ScopeWordBitsSTATE_SHIFT
	threadShift = kern.ScopeWordBitsTHREAD_SHIFT
	stateMask   = 1<<(threadShift-stateShift) - 1
)

func wordOf(tick uint64, owner uint32, s pstate.State, t pstate.ThreadState) word {
	return word(tick&sinceMask | uint64(owner&ownerMask)<<ownerShift | uint64(s&stateMask)<<stateShift |
		uint64(t)<<threadShift)
}

func (w word) owner() uint32 { return uint32(w>>ownerShift) & ownerMask }
func (w word) state() pstate.State {
	return min(pstate.State(w>>stateShift)&stateMask, pstate.NumStates-1)
}
func (w word) thread() pstate.ThreadState {
	return min(pstate.ThreadState(w>>threadShift), pstate.NumThreadStates-1)
}

// cell is the index in p_record.time for a (state, thread state); see cell in bpf/account.h.
func cell(s pstate.State, t pstate.ThreadState) int {
	if t == pstate.OnCPU && (s == pstate.Syscall || s == pstate.GC) {
		s = pstate.Running
	}
	return int(s)*pstate.NumThreadStates + int(t)
}

// segment is one closed stretch of a P.
type segment struct {
	state      pstate.State
	thread     pstate.ThreadState
	start, end uint64 // ticks
}

// swap moves a P from the word old to a new state at the tick now, exactly as the BPF programs do: the one whose
// compare-and-swap succeeds accounts the time. tookAt, if not 0, says that the new owner has run the P unannounced
// since then. It reports the segments it closed, and false if the word had changed meanwhile.
func swap(r *kern.ScopeP_record, old word, now uint64, owner uint32, s pstate.State, t pstate.ThreadState,
	tookAt uint64) (closed [2]segment, ok bool) {
	gone := elapsed(now, uint64(old))
	now = sinceTick(now, uint64(old)) + gone
	var ran uint64
	if tookAt != 0 && now > tookAt {
		ran = min(now-tookAt, gone)
	}
	if !atomic.CompareAndSwapUint64(&r.Word, uint64(old), uint64(wordOf(now, owner, s, t))) {
		return closed, false
	}
	from := old.state()
	if d := gone - ran; d > 0 {
		atomic.AddUint64(&r.Time[cell(from, old.thread())], d)
		closed[0] = segment{from, old.thread(), now - gone, now - ran}
	}
	if ran > 0 {
		atomic.AddUint64(&r.Time[cell(pstate.Running, pstate.OnCPU)], ran)
		closed[1] = segment{pstate.Running, pstate.OnCPU, now - ran, now}
		countMove(r, from, pstate.Running)
		from = pstate.Running
	}
	countMove(r, from, s)
	return closed, true
}

func countMove(r *kern.ScopeP_record, from, to pstate.State) {
	if from != to {
		atomic.AddUint64(&r.Moves[int(from)*pstate.NumStates+int(to)], 1)
	}
}

// totals are a P record's times at one instant.
type totals struct {
	word word
	now  uint64 // the instant, a tick
	time matrix
}

// readAttempts bounds how often a record is read again while a CPU is between its swap and its additions (some ns,
// except when the thread is preempted right there).
const readAttempts = 64

// read gives the times of a P at one instant not before now. The sum of all times is the instant minus the record's
// birth, always: ok is false if that could not be had in readAttempts, and then the difference has been put to the
// present state.
func read(r *kern.ScopeP_record) (v totals, ok bool) {
	for range readAttempts {
		w := atomic.LoadUint64(&r.Word)
		now := nowTick()
		var sum uint64
		for i := range v.time {
			v.time[i] = atomic.LoadUint64(&r.Time[i])
			sum += v.time[i]
		}
		if atomic.LoadUint64(&r.Word) != w {
			continue
		}
		v.word = word(w)
		open := elapsed(now, w)
		v.now = sinceTick(now, w) + open
		missing := v.now - r.Birth - sum - open
		if missing > sinceMask {
			missing = 0 // more time counted than has passed: a record that is being set up
		}
		v.time[cell(v.word.state(), v.word.thread())] += open + missing
		if missing == 0 {
			return v, true
		}
	}
	return v, false
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
