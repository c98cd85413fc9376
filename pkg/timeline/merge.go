package timeline

import (
	"slices"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// Merge reduces the intervals of one P (ordered by start, not overlapping) to at most limit.
//
// Neighbours in the same states are joined first, which loses nothing. If there are still too many, time is cut into equal
// windows, as many as the limit allows. In a window with more intervals than distinct (state, thread state) pairs, each pair
// becomes one interval as long as all of that pair together; they are laid end to end in the order in which the pairs first
// appear, from the start of the window's first interval, and flagged Merged: their shares are exact, their place is not. So a
// state that occurs at all in a window has an interval of its own there, however short: a stop of 50 µs is never swallowed by
// its neighbours. Other windows keep their intervals as they are, unflagged.
//
// Only when the limit is smaller than the number of pairs in the whole range, the time of pairs goes to the longest
// one; gcstop and uninterruptible go last.
func Merge(ivs []pstate.Interval, limit int) []pstate.Interval {
	ivs = Join(ivs)
	if len(ivs) <= limit || limit <= 0 {
		return ivs
	}
	start, end := ivs[0].Start, ivs[len(ivs)-1].End
	for windows := limit; windows > 1; windows = windows * 3 / 4 {
		if out, ok := mergeWindows(ivs, start, end, windows, limit); ok {
			return out
		}
	}
	out := Join(mergeOne(nil, ivs))
	for len(out) > limit {
		out = Join(foldOne(out))
	}
	return out
}

// Join makes one of neighbours that touch and have the same states. Merged windows are left as they are.
func Join(ivs []pstate.Interval) []pstate.Interval {
	if len(ivs) == 0 {
		return ivs
	}
	out := ivs[:1]
	for _, iv := range ivs[1:] {
		l := &out[len(out)-1]
		if l.End == iv.Start && l.State == iv.State && l.Thread == iv.Thread && l.Merged == iv.Merged {
			l.End = iv.End
			continue
		}
		out = append(out, iv)
	}
	return out
}

// mergeWindows merges with a given number of windows; ok is false when the outcome exceeds the limit.
func mergeWindows(ivs []pstate.Interval, start, end int64, windows, limit int) (out []pstate.Interval, ok bool) {
	width := (end - start + int64(windows) - 1) / int64(windows)
	out = make([]pstate.Interval, 0, limit+maxPairs)
	var pieces []pstate.Interval
	flush := func() bool {
		n := len(out)
		out = mergeOne(out, pieces)
		pieces = pieces[:0]
		// The first interval of this window may go on from the one before.
		if n > 0 && n < len(out) {
			l, f := &out[n-1], out[n]
			if !l.Merged && !f.Merged && l.End == f.Start && l.State == f.State && l.Thread == f.Thread {
				l.End = f.End
				out = slices.Delete(out, n, n+1)
			}
		}
		return len(out) <= limit
	}
	edge := start + width
	for _, iv := range ivs {
		for iv.Start >= edge {
			if !flush() {
				return nil, false
			}
			edge += ((iv.Start-edge)/width + 1) * width
		}
		for iv.End > edge {
			head := iv
			head.End = edge
			pieces = append(pieces, head)
			if !flush() {
				return nil, false
			}
			iv.Start = edge
			// A long interval needs no cut at every edge it passes, only at the last.
			if whole := (iv.End - edge) / width * width; whole > 0 {
				head = iv
				head.End = edge + whole
				pieces = append(pieces, head)
				edge += whole
				if !flush() {
					return nil, false
				}
				iv.Start = head.End
			}
			edge += width
		}
		if iv.End > iv.Start {
			pieces = append(pieces, iv)
		}
	}
	return out, flush()
}

const maxPairs = pstate.NumStates * pstate.NumThreadStates

// mergeOne appends one window.
func mergeOne(out, pieces []pstate.Interval) []pstate.Interval {
	if len(pieces) == 0 {
		return out
	}
	var total [pstate.NumStates][pstate.NumThreadStates]int64
	var order [maxPairs]pstate.Interval
	pairs := 0
	for _, iv := range pieces {
		t := &total[iv.State][iv.Thread]
		if *t == 0 {
			order[pairs] = iv
			pairs++
		}
		*t += iv.End - iv.Start
	}
	if pairs == len(pieces) {
		return append(out, pieces...)
	}
	at := pieces[0].Start
	for _, iv := range order[:pairs] {
		iv.Merged = true
		iv.Start = at
		at += total[iv.State][iv.Thread]
		iv.End = at
		out = append(out, iv)
	}
	return out
}

// foldOne gives the time of the shortest pair to the longest; rare states only when nothing else is left.
func foldOne(ivs []pstate.Interval) []pstate.Interval {
	short, long := -1, 0
	for i, iv := range ivs {
		if iv.Duration() > ivs[long].Duration() {
			long = i
		}
	}
	for i, iv := range ivs {
		if i == long {
			continue
		}
		if short < 0 || less(iv, ivs[short]) {
			short = i
		}
	}
	d := ivs[short].End - ivs[short].Start
	ivs[long].End += d
	if short < long {
		// Everything between the two moves forward.
		ivs[long].Start, ivs[long].End = ivs[long].Start-d, ivs[long].End-d
		for i := short + 1; i < long; i++ {
			ivs[i].Start, ivs[i].End = ivs[i].Start-d, ivs[i].End-d
		}
	} else {
		for i := long + 1; i < short; i++ {
			ivs[i].Start, ivs[i].End = ivs[i].Start+d, ivs[i].End+d
		}
	}
	for i := range ivs {
		ivs[i].Merged = true
	}
	return slices.Delete(ivs, short, short+1)
}

// less orders what may be folded away first.
func less(a, b pstate.Interval) bool {
	if ra, rb := rare(a), rare(b); ra != rb {
		return rb
	}
	return a.Duration() < b.Duration()
}

func rare(iv pstate.Interval) bool {
	return iv.State == pstate.GCStop || iv.Thread == pstate.Uninterruptible
}
