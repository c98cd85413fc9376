package collector

import (
	"cmp"
	"slices"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// openFor is how long an unchanged P stays open before the sink gets what has passed so far.
const openFor = uint64(1e9) >> tickShift

// maxPending bounds what is kept of one P between two flushes.
const maxPending = 1 << 16

// intervals are the closed stretches of one P on their way to the sink.
type intervals struct {
	pending   []segment // not yet handed over
	lastEnd   uint64    // tick up to which the sink has intervals
	delivered matrix    // the lengths of the intervals that the sink has, by state
}

// begin says that the first interval begins at a tick.
func (p *intervals) begin(at uint64) { p.lastEnd = at }

// skipTo says that the next interval begins at a tick, unless the last one ends later.
func (p *intervals) skipTo(at uint64) { p.lastEnd = max(at, p.lastEnd) }

// due says whether there is something to hand over at the tick now.
func (p *intervals) due(now uint64) bool { return len(p.pending) > 0 || now > p.lastEnd+openFor }

// keep remembers closed segments, and gives how many it had no room for.
func (p *intervals) keep(closed ...segment) (full uint64) {
	for _, s := range closed {
		switch {
		case s.end <= s.start:
		case len(p.pending) >= maxPending:
			full++
		default:
			p.pending = append(p.pending, s)
		}
	}
	return full
}

// take appends the closed intervals of the P with this number to out. raw is the P's totals now; last says that nothing
// will come after. Where segments are missing between those that came, because they were over the budget or did not fit
// into the ring, merged intervals stand in for them: what the totals have grown by and no segment accounts for. late is
// how many segments came too late: something else stands in their place already.
func (p *intervals) take(out []pstate.Interval, id int32, clock *clock, raw *totals, last bool) (all []pstate.Interval,
	late uint64) {
	// Two CPUs may have written their intervals to the ring in the other order than they swapped the word.
	slices.SortFunc(p.pending, func(a, b segment) int { return cmp.Compare(a.start, b.start) })
	emit := func(s segment, merged bool) {
		if s.end <= s.start {
			return
		}
		p.lastEnd = s.end
		p.delivered[cell(s.state, s.thread)] += s.end - s.start
		out = append(out, pstate.Interval{
			P: id, State: s.state, Thread: s.thread, Merged: merged, Start: clock.unix(s.start), End: clock.unix(s.end),
		})
	}
	// Since when the P has been in its present state: no closed segment tells of that yet.
	open := min(sinceTick(raw.now, uint64(raw.word)), raw.now)
	missing := p.missing(raw, open)
	for _, s := range p.pending {
		if s.end <= p.lastEnd {
			late++
			continue
		}
		if s.start > p.lastEnd {
			missing.fill(emit, p.lastEnd, s.start)
		}
		s.start = max(s.start, p.lastEnd)
		emit(s, false)
	}
	p.pending = p.pending[:0]
	// What lies between the last segment and the present state may just not have been read from the ring yet, but not for
	// long.
	if last || raw.now > p.lastEnd+openFor {
		if open > p.lastEnd {
			missing.fill(emit, p.lastEnd, open)
		}
		emit(segment{raw.word.state(), raw.word.thread(), max(open, p.lastEnd), raw.now}, false)
	}
	return out, late
}

// missing is by how much the totals have grown beyond what has been handed over, what the segments at hand account for,
// and the stretch that is still open.
func (p *intervals) missing(raw *totals, open uint64) (m matrix) {
	at := p.lastEnd
	known := p.delivered
	for _, s := range p.pending {
		if s.end > at {
			known[cell(s.state, s.thread)] += s.end - max(s.start, at)
			at = s.end
		}
	}
	if from := max(open, at); raw.now > from {
		known[cell(raw.word.state(), raw.word.thread())] += raw.now - from
	}
	for i, t := range raw.time {
		m[i] = t - min(t, known[i])
	}
	return m
}

// fill covers a gap with one merged interval for each state that time is missing in. Their lengths are in proportion;
// their order is not known, which Merged says.
func (m *matrix) fill(emit func(segment, bool), from, to uint64) {
	var sum uint64
	last := -1
	for i, n := range m {
		if sum += n; n > 0 {
			last = i
		}
	}
	if sum == 0 {
		return
	}
	span := to - from
	for i, n := range m {
		if n == 0 {
			continue
		}
		d := min(to-from, uint64(float64(n)/float64(sum)*float64(span)))
		if i == last {
			d = to - from
		}
		state, thread := pstate.State(i/pstate.NumThreadStates), pstate.ThreadState(i%pstate.NumThreadStates)
		emit(segment{state, thread, from, from + d}, true)
		from += d
	}
}
