package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// edge is an instant at which an M takes a P or gives it back.
type edge struct {
	at   int64 // CLOCK_MONOTONIC
	take bool
	tid  int32 // of the M, where known
	// before a take, by P-Scope: runnable if the P was handed over, none if nothing announced it
	after pstate.ThreadState
}

// raw keeps the raw intervals of each P beside the stops.
type raw struct {
	stopsOnly
	mu sync.Mutex
	ps map[int32][]pstate.Interval
}

func (s *raw) Append(_ pstate.Key, in []pstate.Interval) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range in {
		s.ps[i.P] = append(s.ps[i.P], i)
	}
}

// edgesSeen are the takes and gives between two intervals that touch and are no merged ones.
func edgesSeen(in []pstate.Interval, offset int64) (out []edge) {
	for i := 1; i < len(in); i++ {
		a, b := in[i-1], in[i]
		if !a.Merged && !b.Merged && a.End == b.Start && held(a.State) != held(b.State) {
			out = append(out, edge{at: b.Start - offset, take: held(b.State), after: a.Thread})
		}
	}
	return out
}

// farthest is how far apart two edges may be and still be the same.
const farthest = int64(200 * time.Microsecond)

// nearest is how far an edge lies from the nearest one of its kind in the trace.
func nearest(e edge, traced []edge) int64 {
	i, _ := slices.BinarySearchFunc(traced, e.at, func(x edge, at int64) int { return cmp.Compare(x.at, at) })
	best := int64(math.MaxInt64)
	for _, t := range traced[max(0, i-3):min(len(traced), i+3)] {
		if d := e.at - t.at; t.take == e.take && max(d, -d) < max(best, -best) {
			best = d
		}
	}
	return best
}

// printEdges says how far P-Scope's edges, and the begins and ends of stops, lie from the trace's, by kind: below zero
// is too early.
func (s *raw) printEdges(w io.Writer, t *traced, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kinds := map[string][]int64{}
	for p, in := range s.ps {
		for _, e := range edgesSeen(in, offset) {
			kind := "given back"
			if e.take {
				kind = "taken, thread " + e.after.String() + " before"
			}
			if d := nearest(e, t.edges[p]); max(d, -d) < farthest {
				kinds[kind] = append(kinds[kind], d)
			}
		}
	}
	for _, stop := range t.stops {
		if i := stop.in(s.stops, offset); i >= 0 {
			kinds["stop begun"] = append(kinds["stop begun"], s.stops[i].Start-offset-stop.start)
			kinds["stop ended"] = append(kinds["stop ended"], s.stops[i].End-offset-stop.end)
		}
	}
	for kind, d := range kinds {
		slices.Sort(d)
		at := func(q float64) time.Duration { return time.Duration(d[int(q*float64(len(d)-1))]) }
		fmt.Fprintf(w, "    %-32s %6d edges; off by %v (5 %%) %v (25 %%) %v (median) %v (75 %%) %v (95 %%)\n", kind,
			len(d), at(.05), at(.25), at(.5), at(.75), at(.95))
	}
}

// stretch is a time through which a P is held, or through which it is at rest.
type stretch struct {
	from, to int64
	held     bool
	first    pstate.Interval // of those it consists of, by P-Scope
	last     pstate.Interval
}

// stretchesTraced are those between edges; where two edges' times contradict their order, the order is right.
func stretchesTraced(edges []edge, ran bool, from, to int64) (out []stretch) {
	at, busy := from, ran
	for _, e := range edges {
		now := min(max(e.at, at), to)
		if now > at && e.take != busy {
			out = append(out, stretch{from: at, to: now, held: busy})
			at = now
		}
		busy = e.take
	}
	return append(out, stretch{from: at, to: to, held: busy})
}

// stretchesSeen are those of P-Scope's raw intervals.
func stretchesSeen(in []pstate.Interval, offset int64) (out []stretch) {
	for _, i := range in {
		from, to := i.Start-offset, i.End-offset
		if n := len(out); n > 0 && out[n-1].to == from && out[n-1].held == held(i.State) {
			out[n-1].to, out[n-1].last = to, i
			continue
		}
		out = append(out, stretch{from, to, held(i.State), i, i})
	}
	return out
}

// disagreement is one way in which the two accounts differ.
type disagreement struct {
	how      string
	state    pstate.State // by P-Scope, on the side on which it is wrong
	thread   pstate.ThreadState
	then     pstate.State // what P-Scope has next
	exponent int          // of the stretch of the witness's that it lies in, in ns
}

// disagree says how P-Scope came to differ from the witness through the time that a stretch of its own and one of the
// witness's have in common.
func disagree(seen, witness stretch) disagreement {
	d := disagreement{exponent: int(math.Log10(float64(max(witness.to-witness.from, 1))))}
	i := seen.last
	switch {
	case seen.from <= witness.from && seen.to >= witness.to:
		d.how = map[bool]string{true: "held, not seen at all", false: "at rest, not seen at all"}[witness.held]
	case seen.from <= witness.from:
		d.how = map[bool]string{true: "take seen late", false: "give seen late"}[witness.held]
	case seen.to >= witness.to:
		d.how, i = map[bool]string{true: "give seen early", false: "take seen early"}[witness.held], seen.first
	default:
		d.how, i = map[bool]string{true: "at rest by P-Scope only", false: "held by P-Scope only"}[witness.held],
			seen.first
	}
	d.state, d.thread = i.State, i.Thread
	return d
}

// printDisagreement says in which way the time came about that the two accounts disagree about, in which of P-Scope's
// states it lies, and how long the witness's stretches are, in powers of ten.
func (s *raw) printDisagreement(w io.Writer, t *traced, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums, counts := map[disagreement]time.Duration{}, map[disagreement]int{}
	for p, in := range s.ps {
		witness := stretchesTraced(t.edges[p], t.ran[p], t.from, t.to)
		k := 0
		all := stretchesSeen(in, offset)
		for i, seen := range all {
			for k > 0 && witness[k].from > seen.from {
				k--
			}
			for ; k < len(witness) && witness[k].from < seen.to; k++ {
				if common := min(seen.to, witness[k].to) - max(seen.from, witness[k].from); common > 0 &&
					seen.held != witness[k].held {
					d := disagree(seen, witness[k])
					if i+1 < len(all) {
						d.then = all[i+1].first.State
					}
					sums[d] += time.Duration(common)
					counts[d]++
				}
			}
			k = min(k, len(witness)-1)
		}
	}
	kinds := slices.SortedFunc(maps.Keys(sums), func(a, b disagreement) int { return cmp.Compare(sums[b], sums[a]) })
	n := time.Duration(max(1, len(s.ps))) * time.Duration(t.to-t.from)
	for _, k := range kinds[:min(len(kinds), 24)] {
		fmt.Fprintf(w, "    %-24s %v/%v, then %v, in a stretch of 1e%d ns: %.3f points, %d times, %v each\n", k.how,
			k.state, k.thread, k.then, k.exponent, 100*float64(sums[k])/float64(n),
			counts[k], sums[k]/time.Duration(counts[k]))
	}
}
