package main

import (
	"cmp"
	"fmt"
	"io"
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
			out = append(out, edge{b.Start - offset, held(b.State), a.Thread})
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

// printEdges says how far P-Scope's edges lie from the trace's, by kind: below zero is too early.
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
	for kind, d := range kinds {
		slices.Sort(d)
		at := func(q float64) time.Duration { return time.Duration(d[int(q*float64(len(d)-1))]) }
		fmt.Fprintf(w, "    %-32s %6d edges; off by %v (5 %%) %v (25 %%) %v (median) %v (75 %%) %v (95 %%)\n", kind, len(d), at(.05), at(.25), at(.5), at(.75), at(.95))
	}
}
