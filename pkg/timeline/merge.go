package timeline

import (
	"github.com/p-scope/p-scope/pkg/internal/spans"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Merge reduces the intervals of one P (ordered by start, not overlapping) to at most limit, by the rule of
// spans.Merge. It writes into its argument.
func Merge(ivs []pstate.Interval, limit int) []pstate.Interval {
	return fromSpans(ivs, spans.Merge(toSpans(ivs), limit, rare))
}

// Join makes one of neighbours that touch and have the same states. Merged windows are left as they are. It writes into
// its argument.
func Join(ivs []pstate.Interval) []pstate.Interval { return fromSpans(ivs, spans.Join(toSpans(ivs))) }

// toSpans gives each pair of P state and thread state a code of its own.
func toSpans(ivs []pstate.Interval) []spans.Span {
	out := make([]spans.Span, len(ivs))
	for i, iv := range ivs {
		code := uint8(iv.State)*pstate.NumThreadStates + uint8(iv.Thread)
		out[i] = spans.Span{Start: iv.Start, End: iv.End, Code: code, Merged: iv.Merged}
	}
	return out
}

// fromSpans writes what has become of intervals over them: they never become more.
func fromSpans(ivs []pstate.Interval, out []spans.Span) []pstate.Interval {
	for i, s := range out {
		state, thread := statesOf(s.Code)
		ivs[i] = pstate.Interval{P: ivs[i].P, State: state, Thread: thread, Merged: s.Merged, Start: s.Start,
			End: s.End}
	}
	return ivs[:len(out)]
}

func statesOf(code uint8) (pstate.State, pstate.ThreadState) {
	return pstate.State(code / pstate.NumThreadStates), pstate.ThreadState(code % pstate.NumThreadStates)
}

func rare(code uint8) bool {
	state, thread := statesOf(code)
	return state.Rare() || thread.Rare()
}
