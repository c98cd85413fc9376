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
	at    int64 // CLOCK_MONOTONIC
	take  bool
	tid   int32              // of the M, where known
	after pstate.ThreadState // before a take, by P-Scope: runnable if the P was handed over, none if nothing announced it
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

// printEdges says how far P-Scope's edges, and the begins and ends of stops, lie from the trace's, by kind: below zero is too early.
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
		fmt.Fprintf(w, "    %-32s %6d edges; off by %v (5 %%) %v (25 %%) %v (median) %v (75 %%) %v (95 %%)\n", kind, len(d), at(.05), at(.25), at(.5), at(.75), at(.95))
	}
}

// printDisagreement says in which of P-Scope's states the time lies that the two accounts disagree about, and how long the stretches are, in powers of ten.
func (s *raw) printDisagreement(w io.Writer, t *traced, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	type kind struct {
		busy     bool // by P-Scope, and not by the trace
		state    pstate.State
		thread   pstate.ThreadState
		merged   bool
		exponent int // of the whole stretch of the trace's that it lies in, in ns
	}
	sums := map[kind]time.Duration{}
	for p, in := range s.ps {
		edges := t.edges[p]
		if len(edges) == 0 {
			continue
		}
		for _, i := range in {
			from, to := max(i.Start-offset, t.from), min(i.End-offset, t.to)
			if from >= to {
				continue
			}
			k, _ := slices.BinarySearchFunc(edges, from, func(x edge, at int64) int { return cmp.Compare(x.at, at) })
			for at := from; at < to; k++ {
				end, begun := to, t.from
				if k < len(edges) {
					end = min(end, edges[k].at)
				}
				busy := k > 0 && edges[k-1].take || k == 0 && !edges[0].take
				if busy != held(i.State) && end > at {
					whole := t.to
					if k < len(edges) {
						whole = edges[k].at
					}
					if k > 0 {
						begun = edges[k-1].at
					}
					sums[kind{held(i.State), i.State, i.Thread, i.Merged, int(math.Log10(float64(max(whole-begun, 1))))}] += time.Duration(end - at)
				}
				at = max(at, end)
			}
		}
	}
	kinds := slices.SortedFunc(maps.Keys(sums), func(a, b kind) int { return cmp.Compare(sums[b], sums[a]) })
	n := time.Duration(len(s.ps)) * time.Duration(t.to-t.from)
	for _, k := range kinds[:min(len(kinds), 24)] {
		fmt.Fprintf(w, "    wrongly %-5v %v/%v merged %v, in a stretch of 1e%d ns: %.3f points\n", map[bool]string{true: "busy", false: "at rest"}[k.busy], k.state, k.thread, k.merged, k.exponent, 100*float64(sums[k])/float64(n))
	}
}
