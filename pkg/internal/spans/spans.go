// Package spans is the one place in Go where stretches of time become fewer: the agent merges raw intervals with it
// before it sends them, the plugin what several answers add up to. The browser has the same rule for live data
// (src/live/frames/lanes.ts); both are tested with tools/contract/cases/merge.json.
package spans

import "slices"

// Codes is the number of codes that a Span can have.
const Codes = 64

// Span is a stretch of time in which something was in one state. What the code stands for is the caller's.
type Span struct {
	Start, End int64 // nanoseconds; End is exclusive
	Code       uint8 // below Codes
	// Merged marks a span of a merged window: the share of the window is exact, its place in the window is not known.
	Merged bool
}

func (s Span) length() int64 { return s.End - s.Start }

// continues says whether a span goes on where another one ends, in the same state.
func (s Span) continues(before Span) bool { return before.End == s.Start && before.Code == s.Code }

// Join makes one of neighbours that touch and have the same code. Merged windows are left as they are. It writes into
// its argument.
func Join(spans []Span) []Span {
	if len(spans) == 0 {
		return spans
	}
	out := spans[:1]
	for _, s := range spans[1:] {
		last := &out[len(out)-1]
		if s.continues(*last) && last.Merged == s.Merged {
			last.End = s.End
			continue
		}
		out = append(out, s)
	}
	return out
}

// Merge reduces spans (ordered by start, not overlapping) to at most limit; a limit of 0 or less is none. It may write
// into its argument.
//
// Neighbours in the same state are joined first, which loses nothing. If there are still too many, time is cut into
// equal windows, as many as the limit allows. In a window with more spans than distinct codes, each code becomes one
// span as long as all of that code together. They are laid end to end in the order in which the codes first appear,
// from the start of the window's first span, and flagged Merged: their shares are exact, their place is not. So a state
// that occurs at all in a window has a span of its own there, however short: a stop of 50 µs is never swallowed by its
// neighbours. Other windows keep their spans as they are, unflagged.
//
// Only when the limit is smaller than the number of codes in the whole range, the time of the shortest spans goes to
// the longest one; those with a rare code go last.
func Merge(spans []Span, limit int, rare func(code uint8) bool) []Span {
	spans = Join(spans)
	if len(spans) <= limit || limit <= 0 {
		return spans
	}
	m := merger{end: spans[len(spans)-1].End, start: spans[0].Start, limit: limit}
	for windows := limit; windows > 1; windows = windows * 3 / 4 {
		if m.windows(spans, windows) {
			return m.out
		}
	}
	out := Join(mergeOne(nil, spans))
	for len(out) > limit {
		out = Join(foldOne(out, rare))
	}
	return out
}

// merger merges spans window by window.
type merger struct {
	start, end  int64
	limit       int
	out, pieces []Span
}

// windows merges with a given number of windows; false when the outcome exceeds the limit.
func (m *merger) windows(spans []Span, windows int) bool {
	width := (m.end - m.start + int64(windows) - 1) / int64(windows)
	if m.out == nil {
		m.out = make([]Span, 0, m.limit+Codes)
	}
	m.out, m.pieces = m.out[:0], m.pieces[:0]
	edge := m.start + width
	for _, s := range spans {
		for s.Start >= edge {
			if !m.flush() {
				return false
			}
			edge += ((s.Start-edge)/width + 1) * width
		}
		for s.End > edge {
			head := s
			head.End = edge
			m.pieces = append(m.pieces, head)
			if !m.flush() {
				return false
			}
			s.Start = edge
			// A long span needs no cut at every edge it passes, only at the last.
			if whole := (s.End - edge) / width * width; whole > 0 {
				head = s
				head.End = edge + whole
				m.pieces = append(m.pieces, head)
				edge += whole
				if !m.flush() {
					return false
				}
				s.Start = head.End
			}
			edge += width
		}
		if s.End > s.Start {
			m.pieces = append(m.pieces, s)
		}
	}
	return m.flush()
}

// flush ends a window; false when there are more spans than the limit.
func (m *merger) flush() bool {
	n := len(m.out)
	m.out = mergeOne(m.out, m.pieces)
	m.pieces = m.pieces[:0]
	// The first span of this window may go on from the one before.
	if n > 0 && n < len(m.out) {
		last, first := &m.out[n-1], m.out[n]
		if !last.Merged && !first.Merged && first.continues(*last) {
			last.End = first.End
			m.out = slices.Delete(m.out, n, n+1)
		}
	}
	return len(m.out) <= m.limit
}

// mergeOne appends one window.
func mergeOne(out, pieces []Span) []Span {
	if len(pieces) == 0 {
		return out
	}
	var total [Codes]int64
	var order [Codes]Span
	codes := 0
	for _, s := range pieces {
		if total[s.Code] == 0 {
			order[codes] = s
			codes++
		}
		total[s.Code] += s.length()
	}
	if codes == len(pieces) {
		return append(out, pieces...)
	}
	at := pieces[0].Start
	for _, s := range order[:codes] {
		s.Merged = true
		s.Start = at
		at += total[s.Code]
		s.End = at
		out = append(out, s)
	}
	return out
}

// foldOne gives the time of the shortest span to the longest; rare ones only when nothing else is left.
func foldOne(spans []Span, rare func(uint8) bool) []Span {
	short, long := -1, 0
	for i, s := range spans {
		if s.length() > spans[long].length() {
			long = i
		}
	}
	before := func(a, b Span) bool {
		if ra, rb := rare(a.Code), rare(b.Code); ra != rb {
			return rb
		}
		return a.length() < b.length()
	}
	for i, s := range spans {
		if i != long && (short < 0 || before(s, spans[short])) {
			short = i
		}
	}
	d := spans[short].length()
	spans[long].End += d
	if short < long {
		// Everything between the two moves forward.
		spans[long].Start, spans[long].End = spans[long].Start-d, spans[long].End-d
		for i := short + 1; i < long; i++ {
			spans[i].Start, spans[i].End = spans[i].Start-d, spans[i].End-d
		}
	} else {
		for i := long + 1; i < short; i++ {
			spans[i].Start, spans[i].End = spans[i].Start+d, spans[i].End+d
		}
	}
	for i := range spans {
		spans[i].Merged = true
	}
	return slices.Delete(spans, short, short+1)
}
