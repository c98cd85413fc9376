package ledger

import (
	"cmp"
	"slices"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// openFor is how long an unchanged P stays open before the sink gets what has passed so far.
const openFor = uint64(1e9) >> TickShift

// maxPending bounds what is kept of one P between two flushes.
const maxPending = 1 << 16

// Intervals are the closed stretches of one P on their way to the sink.
type Intervals struct {
	pending   []Segment // not yet handed over
	lastEnd   uint64    // tick up to which the sink has intervals
	delivered Matrix    // the lengths of the intervals that the sink has, by state
}

// Begin says that the first interval begins at a tick.
func (p *Intervals) Begin(at uint64) { p.lastEnd = at }

// SkipTo says that the next interval begins at a tick, unless the last one ends later.
func (p *Intervals) SkipTo(at uint64) { p.lastEnd = max(at, p.lastEnd) }

// Due says whether there is something to hand over at the tick now.
func (p *Intervals) Due(now uint64) bool { return len(p.pending) > 0 || now > p.lastEnd+openFor }

// Keep remembers closed segments, and gives how many it had no room for.
func (p *Intervals) Keep(closed ...Segment) (full uint64) {
	for _, s := range closed {
		switch {
		case s.End <= s.Start:
		case len(p.pending) >= maxPending:
			full++
		default:
			p.pending = append(p.pending, s)
		}
	}
	return full
}

// Take appends the closed intervals of the P with this number to out. raw is the P's totals now; last says that nothing
// will come after. Where segments are missing between those that came, because they were over the budget or did not fit
// into the ring, merged intervals stand in for them: what the totals have grown by and no segment accounts for. late is
// how many segments came too late: something else stands in their place already.
func (p *Intervals) Take(out []pstate.Interval, id int32, clock *Clock, raw *Totals, last bool) (all []pstate.Interval,
	late uint64) {
	// Two CPUs may have written their intervals to the ring in the other order than they swapped the word.
	slices.SortFunc(p.pending, func(a, b Segment) int { return cmp.Compare(a.Start, b.Start) })
	emit := func(s Segment, merged bool) {
		if s.End <= s.Start {
			return
		}
		p.lastEnd = s.End
		p.delivered[Cell(s.State, s.Thread)] += s.End - s.Start
		out = append(out, pstate.Interval{
			P: id, State: s.State, Thread: s.Thread, Merged: merged, Start: clock.Unix(s.Start), End: clock.Unix(s.End),
		})
	}
	// Since when the P has been in its present state: no closed segment tells of that yet.
	open := min(Since(raw.Now, uint64(raw.Word)), raw.Now)
	missing := p.missing(raw, open)
	for _, s := range p.pending {
		if s.End <= p.lastEnd {
			late++
			continue
		}
		if s.Start > p.lastEnd {
			missing.fill(emit, p.lastEnd, s.Start)
		}
		s.Start = max(s.Start, p.lastEnd)
		emit(s, false)
	}
	p.pending = p.pending[:0]
	// What lies between the last segment and the present state may just not have been read from the ring yet, but not
	// for long.
	if last || raw.Now > p.lastEnd+openFor {
		if open > p.lastEnd {
			missing.fill(emit, p.lastEnd, open)
		}
		emit(Segment{raw.Word.State(), raw.Word.Thread(), max(open, p.lastEnd), raw.Now}, false)
	}
	return out, late
}

// missing is by how much the totals have grown beyond what has been handed over, what the segments at hand account for,
// and the stretch that is still open.
func (p *Intervals) missing(raw *Totals, open uint64) (m Matrix) {
	at := p.lastEnd
	known := p.delivered
	for _, s := range p.pending {
		if s.End > at {
			known[Cell(s.State, s.Thread)] += s.End - max(s.Start, at)
			at = s.End
		}
	}
	if from := max(open, at); raw.Now > from {
		known[Cell(raw.Word.State(), raw.Word.Thread())] += raw.Now - from
	}
	for i, t := range raw.Time {
		m[i] = t - min(t, known[i])
	}
	return m
}

// fill covers a gap with one merged interval for each state that time is missing in. Their lengths are in proportion;
// their order is not known, which Merged says.
func (m *Matrix) fill(emit func(Segment, bool), from, to uint64) {
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
		emit(Segment{state, thread, from, from + d}, true)
		from += d
	}
}
