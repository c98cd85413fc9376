package timeline

import "github.com/p-scope/p-scope/pkg/pstate"

// record is one interval in 16 bytes: the start, and in one word
//
//	bits 0-39 duration in nanoseconds, 40-55 P, 56-58 state, 59-61 thread state, 62 merged.
//
// 40 bits are 18 minutes; what lasts longer is stored in pieces and joined again by the reader.
type record struct {
	start int64
	word  uint64
}

const (
	recordBytes = 16
	maxDuration = 1<<40 - 1
	maxP        = 1<<16 - 1

	pShift      = 40
	stateShift  = 56
	threadShift = 59
	mergedShift = 62
)

func pack(p int32, state pstate.State, thread pstate.ThreadState, merged bool, start, end int64) record {
	w := uint64(end-start) | uint64(p)<<pShift | uint64(state)<<stateShift | uint64(thread)<<threadShift
	if merged {
		w |= 1 << mergedShift
	}
	return record{start: start, word: w}
}

func (r record) p() int32   { return int32(r.word >> pShift & maxP) }
func (r record) end() int64 { return r.start + int64(r.word&maxDuration) }

func (r record) interval() pstate.Interval {
	return pstate.Interval{
		P:      r.p(),
		State:  pstate.State(r.word >> stateShift & 7),
		Thread: pstate.ThreadState(r.word >> threadShift & 7),
		Merged: r.word>>mergedShift&1 == 1,
		Start:  r.start,
		End:    r.end(),
	}
}
