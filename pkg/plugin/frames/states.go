package frames

import (
	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// ThreadState of the protocol in P-Scope's words. What is not given, and what this version does not know, counts as no
// thread.
func ThreadState(s pscopev1.ThreadState) pstate.ThreadState {
	if t, ok := pstate.ThreadStateOf(int32(s)); ok {
		return t
	}
	return pstate.NoThread
}

// Intervals unpacks the columns of one P. Columns of unequal length are read as far as all reach. An agent of a later
// version may know states that this plugin does not: intervals of such P states are left out, which shows as a gap, and
// such thread states count as no thread.
func Intervals(p *pscopev1.PIntervals) []pstate.Interval {
	n := min(len(p.GetCode()), len(p.GetGapNanos()), len(p.GetDurationNanos()))
	out := make([]pstate.Interval, 0, n)
	at := p.GetBaseUnixNano()
	for i := range n {
		code := p.GetCode()[i]
		start := at + int64(p.GetGapNanos()[i])
		at = start + int64(p.GetDurationNanos()[i])
		state, known := pstate.StateOf(int32(code & 0xf))
		if !known {
			continue
		}
		out = append(out, pstate.Interval{
			P: p.GetP(), State: state, Thread: ThreadState(pscopev1.ThreadState(code >> 4 & 0xf)),
			Merged: code>>8&1 == 1, Start: start, End: at,
		})
	}
	return out
}
