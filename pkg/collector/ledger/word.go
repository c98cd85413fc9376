package ledger

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Word is a P's or a thread's state word; bpf/types.h says how it is made up and why.
type Word uint64

const (
	ownerShift  = kern.ScopeWordBitsOWNER_SHIFT
	ownerMask   = 1<<kern.ScopeWordBitsOWNER_BITS - 1
	stateShift  = kern.ScopeWordBitsSTATE_SHIFT
	threadShift = kern.ScopeWordBitsTHREAD_SHIFT
	stateMask   = 1<<(threadShift-stateShift) - 1
)

// NewWord makes one.
func NewWord(tick uint64, owner uint32, s pstate.State, t pstate.ThreadState) Word {
	return Word(tick&SinceMask | uint64(owner&ownerMask)<<ownerShift | uint64(s&stateMask)<<stateShift |
		uint64(t)<<threadShift)
}

// Owner is the thread that carries the P; 0 if none does.
func (w Word) Owner() uint32 { return uint32(w>>ownerShift) & ownerMask }

// State is that of the P.
func (w Word) State() pstate.State {
	return min(pstate.State(w>>stateShift)&stateMask, pstate.NumStates-1)
}

// Thread is the state of the thread.
func (w Word) Thread() pstate.ThreadState {
	return min(pstate.ThreadState(w>>threadShift), pstate.NumThreadStates-1)
}

// Cell is the index in p_record.time for a (state, thread state); see time_index in bpf/account.h.
func Cell(s pstate.State, t pstate.ThreadState) int {
	if t == pstate.OnCPU && (s == pstate.Syscall || s == pstate.GC) {
		s = pstate.Running
	}
	return int(s)*pstate.NumThreadStates + int(t)
}

// Segment is one closed stretch of a P.
type Segment struct {
	State      pstate.State
	Thread     pstate.ThreadState
	Start, End uint64 // ticks
}

// Swap moves a P from the word old to a new state at the tick now, exactly as the BPF programs do: the one whose
// compare-and-swap succeeds accounts the time. tookAt, if not 0, says that the new owner has run the P unannounced
// since then. It reports the segments it closed, and false if the word had changed meanwhile.
func Swap(r *kern.ScopeP_record, old Word, now uint64, owner uint32, s pstate.State, t pstate.ThreadState,
	tookAt uint64) (closed [2]Segment, ok bool) {
	gone := Elapsed(now, uint64(old))
	now = Since(now, uint64(old)) + gone
	var ran uint64
	if tookAt != 0 && now > tookAt {
		ran = min(now-tookAt, gone)
	}
	if !atomic.CompareAndSwapUint64(&r.Word, uint64(old), uint64(NewWord(now, owner, s, t))) {
		return closed, false
	}
	from := old.State()
	if d := gone - ran; d > 0 {
		atomic.AddUint64(&r.Time[Cell(from, old.Thread())], d)
		closed[0] = Segment{from, old.Thread(), now - gone, now - ran}
	}
	if ran > 0 {
		atomic.AddUint64(&r.Time[Cell(pstate.Running, pstate.OnCPU)], ran)
		closed[1] = Segment{pstate.Running, pstate.OnCPU, now - ran, now}
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

// Totals are a P record's times at one instant.
type Totals struct {
	Word Word
	Now  uint64 // the instant, a tick
	Time Matrix
}

// readAttempts bounds how often a record is read again while a CPU is between its swap and its additions (some ns,
// except when the thread is preempted right there).
const readAttempts = 64

// Read gives the times of a P at one instant not before now. The sum of all times is the instant minus the record's
// birth, always: ok is false if that could not be had in readAttempts, and then the difference has been put to the
// present state.
func Read(r *kern.ScopeP_record) (v Totals, ok bool) {
	for range readAttempts {
		w := atomic.LoadUint64(&r.Word)
		now := Now()
		var sum uint64
		for i := range v.Time {
			v.Time[i] = atomic.LoadUint64(&r.Time[i])
			sum += v.Time[i]
		}
		if atomic.LoadUint64(&r.Word) != w {
			continue
		}
		v.Word = Word(w)
		open := Elapsed(now, w)
		v.Now = Since(now, w) + open
		missing := v.Now - r.Birth - sum - open
		if missing > SinceMask {
			missing = 0 // more time counted than has passed: a record that is being set up
		}
		v.Time[Cell(v.Word.State(), v.Word.Thread())] += open + missing
		if missing == 0 {
			return v, true
		}
	}
	return v, false
}

// ReadAt gives a record's times at a tick, or at its last change if that came later.
func ReadAt(r *kern.ScopeP_record, at uint64) (v Totals) {
	v.Word = Word(atomic.LoadUint64(&r.Word))
	for i := range v.Time {
		v.Time[i] = atomic.LoadUint64(&r.Time[i])
	}
	since := Since(at, uint64(v.Word))
	v.Now = max(at, since)
	v.Time[Cell(v.Word.State(), v.Word.Thread())] += v.Now - since
	return v
}
