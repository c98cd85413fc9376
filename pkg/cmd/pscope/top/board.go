//go:build linux

package top

import (
	"cmp"
	"slices"
	"time"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// window is the time over which shares are taken: long enough to be calm, short enough to follow the eye.
const window = 2 * time.Second

// key identifies a target within a stream.
type key struct {
	pid   int32
	start uint64
	// runtime names the library it is in; empty: the program itself
	runtime string
}

// board is the state of all targets as the agent's stream has told it so far.
type board struct {
	at      int64 // Unix nanoseconds of the newest message
	targets map[key]*target
	refused int               // processes that are Go but not observed
	lost    map[string]uint64 // what this reader missed, by reason
}

// target is one process on the board.
type target struct {
	key    key
	info   *pscopev1.Target
	ps     []*processor // by index
	global int32        // global queue depth; -1: not known
	stops  []stop       // those of the last stopMemory
}

// stop is a finished stop-the-world interval.
type stop struct {
	end    int64 // Unix nanoseconds
	length time.Duration
	reason string
}

const stopMemory = 10 * time.Second

// processor is one P on the board.
type processor struct {
	p       int32
	state   pstate.State
	thread  pstate.ThreadState
	since   int64 // Unix nanoseconds
	runq    int32 // -1: not known
	samples []sample
}

// sample holds the totals of a P at one instant, in nanoseconds.
type sample struct {
	at     int64
	state  [pstate.NumStates]uint64
	thread [pstate.NumThreadStates]uint64
	d      uint64
}

// shares are parts of the window, 0 to 1. known is false until two samples are there.
type shares struct {
	known  bool
	state  [pstate.NumStates]float64
	thread [pstate.NumThreadStates]float64
	d      float64
}

// busy is the share in which the P had work in hand, Go code, garbage collection or a system call, and its thread was
// neither stopped nor frozen.
func (s shares) busy() float64 {
	return max(0, s.state[pstate.Running]+s.state[pstate.GC]+
		s.state[pstate.Syscall]-s.thread[pstate.Stopped]-s.thread[pstate.Frozen])
}

func newBoard() *board {
	return &board{targets: map[key]*target{}, lost: map[string]uint64{}}
}

// take takes in one piece of news; that of trouble is not the board's.
func (b *board) take(n news) {
	switch {
	case n.message != nil:
		b.apply(n.message)
	case n.err == nil:
		b.refused = n.refused
	}
}

func (b *board) apply(m *pscopev1.WatchResponse) {
	if m.GetResync() {
		b.targets = map[key]*target{}
	}
	b.at = m.GetAtUnixNano()
	for _, l := range m.GetLost() {
		b.lost[l.GetReason()] += l.GetCount()
	}
	for _, u := range m.GetTargets() {
		k := key{u.GetTarget().GetKey().GetPid(), u.GetTarget().GetKey().GetStartTime(),
			u.GetTarget().GetKey().GetRuntime()}
		if u.GetEnded() {
			delete(b.targets, k)
			continue
		}
		t := b.targets[k]
		if t == nil {
			t = &target{key: k, info: u.GetTarget(), global: -1}
			b.targets[k] = t
		}
		if u.GetTarget().GetProcess() != "" {
			t.info = u.GetTarget()
		}
		t.update(u, b.at)
	}
	for _, t := range b.targets {
		t.stops = slices.DeleteFunc(t.stops, func(s stop) bool { return s.end < b.at-int64(stopMemory) })
	}
}

func (t *target) update(u *pscopev1.TargetUpdate, at int64) {
	t.global = u.GetGlobalRunqDepth()
	for _, s := range u.GetStops() {
		if s.GetEndUnixNano() != 0 {
			t.stops = append(t.stops, stop{s.GetEndUnixNano(), time.Duration(s.GetEndUnixNano() - s.GetStartUnixNano()),
				s.GetReason()})
		}
	}
	if len(u.GetPs()) == 0 {
		return
	}
	known := map[int32]*processor{}
	for _, p := range t.ps {
		known[p.p] = p
	}
	t.ps = t.ps[:0]
	for _, n := range u.GetPs() {
		p := known[n.GetP()]
		if p == nil {
			p = &processor{p: n.GetP()}
		}
		p.update(n, at)
		t.ps = append(t.ps, p)
	}
	slices.SortFunc(t.ps, func(a, b *processor) int { return cmp.Compare(a.p, b.p) })
}

func (p *processor) update(n *pscopev1.PNow, at int64) {
	if s, ok := pstate.StateOf(int32(n.GetState())); ok {
		p.state = s
	}
	if s, ok := pstate.ThreadStateOf(int32(n.GetThreadState())); ok {
		p.thread = s
	}
	p.since, p.runq = n.GetSinceUnixNano(), n.GetRunqDepth()
	s := sample{at: at, d: n.GetUninterruptibleNanos()}
	for i, v := range n.GetStateNanos() {
		if state, ok := pstate.StateOf(int32(i)); ok {
			s.state[state] = v
		}
	}
	for i, v := range n.GetThreadNanos() {
		if state, ok := pstate.ThreadStateOf(int32(i)); ok {
			s.thread[state] = v
		}
	}
	p.samples = append(p.samples, s)
	// Keep the youngest sample that is at least a window old, and all after it.
	for len(p.samples) > 2 && p.samples[1].at <= at-int64(window) {
		p.samples = p.samples[1:]
	}
}

// shares are those of the last window.
func (p *processor) shares() (s shares) {
	if len(p.samples) < 2 {
		return s
	}
	a, b := p.samples[0], p.samples[len(p.samples)-1]
	wall := float64(b.at - a.at)
	if wall <= 0 {
		return s
	}
	part := func(from, to uint64) float64 {
		if to <= from {
			return 0 // totals never fall; one that seems to is a stream that started afresh
		}
		return min(float64(to-from)/wall, 1)
	}
	s.known = true
	for i := range s.state {
		s.state[i] = part(a.state[i], b.state[i])
	}
	for i := range s.thread {
		s.thread[i] = part(a.thread[i], b.thread[i])
	}
	s.d = part(a.d, b.d)
	return s
}

// shares of a target are the mean over its Ps, the D share the largest of any.
func (t *target) shares() (sum shares) {
	n := 0.0
	for _, p := range t.ps {
		s := p.shares()
		if !s.known || p.state == pstate.Dead {
			continue
		}
		sum.known = true
		n++
		for i := range s.state {
			sum.state[i] += s.state[i]
		}
		for i := range s.thread {
			sum.thread[i] += s.thread[i]
		}
		sum.d = max(sum.d, s.d)
	}
	for i := range sum.state {
		sum.state[i] /= max(n, 1)
	}
	for i := range sum.thread {
		sum.thread[i] /= max(n, 1)
	}
	return sum
}

// depth is the number of goroutines queued on all Ps and globally, as far as known.
func (t *target) depth() (n int64) {
	for _, p := range t.ps {
		n += int64(max(p.runq, 0))
	}
	return n + int64(max(t.global, 0))
}

// order is a way to sort targets.
type order string

const (
	byBusy  order = "busy"
	byD     order = "d"
	byRunq  order = "runq"
	byStops order = "stops"
	byName  order = "name"
)

func orders() []order { return []order{byBusy, byD, byRunq, byStops, byName} }

// sorted lists the targets in the given order; equal ones keep their pid order, so that nothing jumps.
func (b *board) sorted(o order) []*target {
	ts := make([]*target, 0, len(b.targets))
	rank := map[*target]float64{}
	for _, t := range b.targets {
		ts = append(ts, t)
		switch o {
		case byBusy:
			rank[t] = t.shares().busy()
		case byD:
			rank[t] = t.shares().d
		case byRunq:
			rank[t] = float64(t.depth())
		case byStops:
			for _, s := range t.stops {
				rank[t] += s.length.Seconds()
			}
		}
	}
	slices.SortFunc(ts, func(a, c *target) int {
		return cmp.Or(
			cmp.Compare(roundRank(rank[c]), roundRank(rank[a])),
			cmp.Compare(a.info.GetProcess(), c.info.GetProcess()),
			cmp.Compare(a.key.pid, c.key.pid))
	})
	return ts
}

// roundRank keeps targets that are nearly equal from changing places at every message.
func roundRank(v float64) float64 { return float64(int64(v * 20)) }
