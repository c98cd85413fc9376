package main

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/exp/trace"
)

// What a P does, as far as runtime/trace tells: it knows neither thread states nor which of the Ps at rest a stop keeps
// there.
const (
	onGo = iota
	onGC
	onSyscall
	atRest
	classes
)

var classNames = [classes]string{"running", "gc", "syscall", "at rest"}

// account is the time of one P by class.
type account [classes]int64

// traced is what a trace says of its window.
type traced struct {
	from, to int64 // CLOCK_MONOTONIC
	ps       map[int32]account
	moves    map[int32]int // starts and stops of the P
	edges    map[int32][]edge
	ran      map[int32]bool // an M had it before the first of them
	stops    []tracedStop
}

type tracedStop struct {
	start, end int64 // CLOCK_MONOTONIC
	reason     string
}

// share of the window P p spent in class c.
func (t *traced) share(p int32, c int) float64 {
	return float64(t.ps[p][c]) / float64(t.to-t.from)
}

// follower is the state of one P while the trace is read.
type follower struct {
	runs  bool
	since trace.Time
	g     trace.GoID // on it, as long as nothing else is
	acc   account    // by the reader's times
	edges []edge     // by the file's
	ran   bool       // before the first of them
}

// account says how the P's time between two instants was spent: whether an M had it by the times of its takes and
// gives, and on what in the proportions that the reader's times have.
func (f *follower) account(from, to int64) (a account, moves int) {
	at, busy := from, f.ran
	var held int64
	for _, e := range f.edges {
		if e.at > from && e.at <= to {
			moves++
		}
		// Where two threads' clocks or the time between event and look at the clock disagree with their order, the
		// order is right.
		now := min(max(e.at, at), to)
		if busy {
			held += now - at
		}
		at, busy = now, e.take
	}
	if busy {
		held += to - at
	}
	a[atRest] = to - from - held
	if of := f.acc[onGo] + f.acc[onGC] + f.acc[onSyscall]; of > 0 {
		for c := range atRest {
			a[c] = int64(float64(held) * float64(f.acc[c]) / float64(of))
		}
	} else {
		a[onGo] = held
	}
	return a, moves
}

// readTrace accounts every P of a trace. The tool is go tool trace as a program of its own, or empty.
func readTrace(path, tool string) (*traced, error) {
	w, err := readWire(path, tool)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rd, err := trace.NewReader(f)
	if err != nil {
		return nil, err
	}
	r := &traceReader{wire: w, ps: map[int32]*follower{}, states: map[trace.GoID]trace.GoState{},
		workers: map[trace.GoID]bool{}, stopping: map[trace.ResourceID]trace.Time{}}
	for {
		ev, err := rd.ReadEvent()
		if errors.Is(err, io.EOF) {
			return r.result(), nil
		}
		if err != nil {
			return nil, err
		}
		r.take(&ev)
	}
}

// traceReader accounts every P while a trace is read.
type traceReader struct {
	wire     *wire
	toMono   int64 // from a trace's time to CLOCK_MONOTONIC
	first    trace.Time
	logs     int // 1: within the window
	ps       map[int32]*follower
	states   map[trace.GoID]trace.GoState
	workers  map[trace.GoID]bool // goroutines that mark
	stopping map[trace.ResourceID]trace.Time
	stops    []tracedStop // in the trace's time
}

// p gives the state of a P.
func (r *traceReader) p(id int32) *follower {
	if r.ps[id] == nil {
		r.ps[id] = &follower{since: r.first}
	}
	return r.ps[id]
}

// advance accounts the time of a P until now.
func (r *traceReader) advance(p *follower, now trace.Time) {
	if r.logs != 1 {
		p.since = now // outside of the window
		return
	}
	c := atRest
	if p.runs {
		c = onGo
		if p.g != trace.NoGoroutine {
			switch {
			case r.states[p.g] == trace.GoSyscall:
				c = onSyscall
			case r.states[p.g] == trace.GoRunning && r.workers[p.g]:
				c = onGC
			}
		}
	}
	p.acc[c] += int64(now - p.since)
	p.since = now
}

// take accounts one event.
func (r *traceReader) take(ev *trace.Event) {
	now := ev.Time()
	if ev.Kind() == trace.EventSync {
		if c := ev.Sync().ClockSnapshot; c != nil && r.toMono == 0 {
			r.toMono = int64(c.Mono) - int64(c.Trace)
		}
		return
	}
	if r.first == 0 {
		r.first = now
	}
	switch ev.Kind() {
	case trace.EventStateTransition:
		switch st := ev.StateTransition(); st.Resource.Kind {
		case trace.ResourceProc:
			r.takeProc(ev, &st)
		case trace.ResourceGoroutine:
			r.takeGoroutine(ev, &st)
		}
	case trace.EventLog:
		for _, p := range r.ps {
			r.advance(p, now)
		}
		r.logs++
	case trace.EventRangeBegin:
		if strings.HasPrefix(ev.Range().Name, "stop-the-world") {
			r.stopping[ev.Range().Scope] = r.wire.next(ev.Thread(), -1, now, "STWBegin")
		}
	case trace.EventRangeEnd:
		rg := ev.Range()
		if begun, ok := r.stopping[rg.Scope]; ok && strings.HasPrefix(rg.Name, "stop-the-world") {
			reason := strings.TrimSuffix(strings.TrimPrefix(rg.Name, "stop-the-world ("), ")")
			end := int64(r.wire.next(ev.Thread(), -1, now, "STWEnd"))
			r.stops = append(r.stops, tracedStop{int64(begun), end, reason})
			delete(r.stopping, rg.Scope)
		}
	}
}

// takeProc accounts the start or stop of a P.
func (r *traceReader) takeProc(ev *trace.Event, st *trace.StateTransition) {
	now, id := ev.Time(), int64(st.Resource.Proc())
	p := r.p(int32(id))
	r.advance(p, now)
	from, to := st.Proc()
	p.runs = to == trace.ProcRunning
	switch {
	case from == trace.ProcUndetermined || from == trace.ProcNotExist:
		p.ran = p.runs
	case from != to && p.runs:
		p.edges = append(p.edges, edge{at: int64(r.wire.next(ev.Thread(), id, now, "ProcStart")), take: true})
	case from != to:
		p.edges = append(p.edges, edge{at: int64(r.wire.next(ev.Thread(), id, now, "ProcStop", "ProcSteal"))})
	}
	if !p.runs {
		p.g = trace.NoGoroutine
	}
}

// takeGoroutine accounts a goroutine's change of state.
func (r *traceReader) takeGoroutine(ev *trace.Event, st *trace.StateTransition) {
	g := st.Resource.Goroutine()
	from, to := st.Goroutine()
	if id := ev.Proc(); id != trace.NoProc {
		p := r.p(int32(id))
		r.advance(p, ev.Time())
		switch {
		case to.Executing() && ev.Goroutine() == g || to == trace.GoRunning:
			p.g = g
		case from.Executing() && p.g == g && !to.Executing():
			p.g = trace.NoGoroutine
		}
	}
	r.states[g] = to
	// A mark worker is known by the function it started with. The runtime's labels "GC (…)" go to any goroutine that is
	// started while the P's mark worker mode is set (runtime/traceruntime.go, GoStart).
	for f := range st.Stack.Frames() {
		if f.Func == "runtime.gcBgMarkWorker" {
			r.workers[g] = true
		}
	}
}

// result gives what was accounted, in CLOCK_MONOTONIC.
func (r *traceReader) result() *traced {
	t := &traced{from: int64(r.wire.begin) + r.toMono, to: int64(r.wire.end) + r.toMono, stops: r.stops,
		ran: map[int32]bool{}, ps: map[int32]account{}, moves: map[int32]int{}, edges: map[int32][]edge{}}
	for id, p := range r.ps {
		for i := range p.edges {
			p.edges[i].at += r.toMono
		}
		t.edges[id], t.ran[id] = p.edges, p.ran
		t.ps[id], t.moves[id] = p.account(t.from, t.to)
	}
	for i := range t.stops {
		t.stops[i].start += r.toMono
		t.stops[i].end += r.toMono
	}
	return t
}
