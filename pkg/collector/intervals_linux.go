package collector

import (
	"cmp"
	"slices"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// openFor is how long an unchanged P stays open before the sink gets what has passed so far.
const openFor = uint64(1e9) >> tickShift

// maxPending bounds what is kept of one P between two flushes; the kernel side's budget is lower.
const maxPending = 1 << 16

// keep remembers closed segments until the next flush.
func (p *observedP) keep(closed []segment) {
	for _, s := range closed {
		if s.end > s.start && len(p.pending) < maxPending {
			p.pending = append(p.pending, s)
		}
	}
}

// take appends the P's closed intervals to out. raw is the P's totals now; over says that raw intervals are missing since the last call.
func (p *observedP) take(out []pstate.Interval, o *observed, raw totals, over bool) []pstate.Interval {
	// Two CPUs may have written their intervals to the ring in the other order than they swapped the word.
	slices.SortFunc(p.pending, func(a, b segment) int { return cmp.Compare(a.start, b.start) })
	emit := func(s segment, merged bool) {
		s.start = max(s.start, p.lastEnd)
		if s.end <= s.start {
			return
		}
		p.lastEnd = s.end
		out = append(out, pstate.Interval{
			P: p.id, State: s.state, Thread: s.thread, Merged: merged, Start: o.c.clock.unix(s.start), End: o.c.clock.unix(s.end),
		})
	}
	for _, s := range p.pending {
		if over && s.start > p.lastEnd {
			break // what came before it is missing: from here on only the totals can be told
		}
		start := max(s.start, p.lastEnd)
		emit(s, false)
		if s.end > start {
			p.window[cell(s.state, s.thread)] += s.end - start
		}
	}
	if over {
		p.fill(emit, &raw)
	} else if raw.now > p.lastEnd+openFor {
		emit(segment{raw.word.state(), raw.word.thread(), p.lastEnd, raw.now}, false)
	}
	p.pending = p.pending[:0]
	// The totals as they were at lastEnd: since then the P has been in one state.
	p.window = raw.time
	if raw.now > p.lastEnd {
		c := cell(raw.word.state(), raw.word.thread())
		p.window[c] -= min(p.window[c], raw.now-p.lastEnd)
	}
	return out
}

// fill covers the time since lastEnd with one merged interval for each state that the totals have for it. Their lengths are right; their
// order is not known, which Merged says.
func (p *observedP) fill(emit func(segment, bool), raw *totals) {
	if raw.now <= p.lastEnd {
		return
	}
	span := raw.now - p.lastEnd
	var sum uint64
	var part matrix
	for i := range raw.time {
		if raw.time[i] > p.window[i] {
			part[i] = raw.time[i] - p.window[i]
			sum += part[i]
		}
	}
	if sum == 0 {
		return
	}
	at, left := p.lastEnd, span
	for i, n := range part {
		if n == 0 {
			continue
		}
		d := min(left, uint64(float64(n)/float64(sum)*float64(span)))
		emit(segment{pstate.State(i / pstate.NumThreadStates), pstate.ThreadState(i % pstate.NumThreadStates), at, at + d}, true)
		at, left = at+d, left-d
	}
}
