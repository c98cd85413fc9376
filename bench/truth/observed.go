package main

import (
	"slices"
	"sync"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// sighting is one view of the target, taken at an instant of CLOCK_MONOTONIC.
type sighting struct {
	mono int64
	view pstate.TargetView
}

// stopsOnly keeps the stops and nothing else.
type stopsOnly struct {
	mu    sync.Mutex
	stops []pstate.Stop
}

func (s *stopsOnly) Append(pstate.Key, []pstate.Interval) {}
func (s *stopsOnly) Lost(pstate.Key, string, uint64)      {}
func (s *stopsOnly) End(pstate.Key, int64)                {}
func (s *stopsOnly) AppendStop(_ pstate.Key, st pstate.Stop) {
	s.mu.Lock()
	s.stops = append(s.stops, st)
	s.mu.Unlock()
}

// seenP is the growth of a P's totals over a window, in shares of it.
type seenP struct {
	state [pstate.NumStates]float64
	sum   float64
	moves float64 // takes and gives: transitions into and out of the states in which an M holds the P
}

// class is the share of a P in a class of the trace.
func (s *seenP) class(c int) float64 {
	switch c {
	case onGo:
		return s.state[pstate.Running]
	case onGC:
		return s.state[pstate.GC]
	case onSyscall:
		return s.state[pstate.Syscall]
	}
	return s.state[pstate.Idle] + s.state[pstate.GCStop] + s.state[pstate.Dead]
}

// around finds the sightings before and after an instant and how far it lies between them.
func around(seen []sighting, t int64) (a, b *pstate.TargetView, f float64) {
	i := slices.IndexFunc(seen, func(s sighting) bool { return s.mono >= t })
	if i < 0 {
		i = len(seen) - 1
	}
	i = max(1, i)
	return &seen[i-1].view, &seen[i].view, float64(t-seen[i-1].mono) / float64(seen[i].mono-seen[i-1].mono)
}

// growth of every P's totals between two instants, interpolated between sightings.
func growth(seen []sighting, from, to int64) map[int32]*seenP {
	type totals struct {
		state [pstate.NumStates]float64
		moves float64
	}
	of := func(p *pstate.PView) (t totals) {
		for s := range t.state {
			t.state[s] = float64(p.StateTime(pstate.State(s)))
		}
		for a := range pstate.NumStates {
			for b := range pstate.NumStates {
				if held(pstate.State(a)) != held(pstate.State(b)) {
					t.moves += float64(p.Transitions[a][b])
				}
			}
		}
		return t
	}
	at := func(t int64) map[int32]totals {
		a, b, f := around(seen, t)
		out := map[int32]totals{}
		for j := range b.Ps {
			y := of(&b.Ps[j])
			if j < len(a.Ps) {
				x := of(&a.Ps[j])
				for s := range y.state {
					y.state[s] = x.state[s] + (y.state[s]-x.state[s])*f
				}
				y.moves = x.moves + (y.moves-x.moves)*f
			}
			out[b.Ps[j].P] = y
		}
		return out
	}
	a, b := at(from), at(to)
	out := map[int32]*seenP{}
	for p, y := range b {
		x := a[p]
		d := &seenP{moves: y.moves - x.moves}
		for s := range d.state {
			d.state[s] = (y.state[s] - x.state[s]) / float64(to-from)
			d.sum += d.state[s]
		}
		out[p] = d
	}
	return out
}

// held says whether an M has the P.
func held(s pstate.State) bool { return s == pstate.Running || s == pstate.Syscall || s == pstate.GC }

// threadGrowth is the growth of all threads' time in one state between two instants. Threads are told less often than
// Ps.
func threadGrowth(seen []sighting, offset, from, to int64, state pstate.ThreadState) float64 {
	var told []sighting
	for _, s := range seen {
		if at := s.view.ThreadsAt - offset; s.view.ThreadsAt != 0 && (len(told) == 0 || at > told[len(told)-1].mono) {
			told = append(told, sighting{at, s.view})
		}
	}
	if len(told) < 2 {
		return 0
	}
	at := func(t int64) float64 {
		a, b, f := around(told, t)
		var x, y float64
		for i := range a.Threads {
			x += float64(a.Threads[i].Time[state])
		}
		for i := range b.Threads {
			y += float64(b.Threads[i].Time[state])
		}
		return x + (y-x)*f
	}
	return at(to) - at(from)
}

// threadWindow is the widest window within another at whose ends the threads were told, so that nothing is
// interpolated.
func threadWindow(seen []sighting, offset, from, to int64) (a, b int64) {
	for _, s := range seen {
		switch at := s.view.ThreadsAt - offset; {
		case at < from || at > to:
		case a == 0:
			a = at
		default:
			b = at
		}
	}
	return a, b
}
