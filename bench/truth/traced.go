package main

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/exp/trace"
)

// What a P does, as far as runtime/trace tells: it knows neither thread states nor which of the Ps at rest a stop keeps there.
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
	acc   account
	moves int
}

// readTrace accounts every P of a trace.
func readTrace(path string) (*traced, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rd, err := trace.NewReader(f)
	if err != nil {
		return nil, err
	}
	var (
		toMono      int64
		first, last trace.Time
		ps          = map[int32]*follower{}
		states      = map[trace.GoID]trace.GoState{}
		workers     = map[trace.GoID]bool{}
		stopping    = map[trace.ResourceID]trace.Time{}
		t           = &traced{ps: map[int32]account{}, moves: map[int32]int{}, edges: map[int32][]edge{}}
	)
	at := func(id int32) *follower {
		if ps[id] == nil {
			ps[id] = &follower{since: first}
		}
		return ps[id]
	}
	advance := func(p *follower, now trace.Time) {
		c := atRest
		if p.runs {
			c = onGo
			if p.g != trace.NoGoroutine {
				switch {
				case states[p.g] == trace.GoSyscall:
					c = onSyscall
				case states[p.g] == trace.GoRunning && workers[p.g]:
					c = onGC
				}
			}
		}
		p.acc[c] += int64(now - p.since)
		p.since = now
	}
	for {
		ev, err := rd.ReadEvent()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		now := ev.Time()
		switch ev.Kind() {
		case trace.EventSync:
			if c := ev.Sync().ClockSnapshot; c != nil && toMono == 0 {
				toMono = int64(c.Mono) - int64(c.Trace)
			}
			continue
		}
		if first == 0 {
			first = now
		}
		switch ev.Kind() {
		case trace.EventStateTransition:
			st := ev.StateTransition()
			switch st.Resource.Kind {
			case trace.ResourceProc:
				p := at(int32(st.Resource.Proc()))
				advance(p, now)
				from, to := st.Proc()
				p.runs = to == trace.ProcRunning
				if from != to {
					t.edges[int32(st.Resource.Proc())] = append(t.edges[int32(st.Resource.Proc())], edge{at: int64(now), take: to == trace.ProcRunning})
					p.moves++
				}
				if !p.runs {
					p.g = trace.NoGoroutine
				}
			case trace.ResourceGoroutine:
				g := st.Resource.Goroutine()
				from, to := st.Goroutine()
				if id := ev.Proc(); id != trace.NoProc {
					p := at(int32(id))
					advance(p, now)
					switch {
					case to.Executing() && ev.Goroutine() == g || to == trace.GoRunning:
						p.g = g
					case from.Executing() && p.g == g && !to.Executing():
						p.g = trace.NoGoroutine
					}
				}
				states[g] = to
				// By the function it started with: the runtime's labels "GC (…)" are not to be trusted, because they go to whatever goroutine is
				// started while the P's mark worker mode is set (runtime/traceruntime.go, GoStart).
				for f := range st.Stack.Frames() {
					if f.Func == "runtime.gcBgMarkWorker" {
						workers[g] = true
					}
				}
			}
		case trace.EventRangeBegin:
			if strings.HasPrefix(ev.Range().Name, "stop-the-world") {
				stopping[ev.Range().Scope] = now
			}
		case trace.EventRangeEnd:
			r := ev.Range()
			if begun, ok := stopping[r.Scope]; ok && strings.HasPrefix(r.Name, "stop-the-world") {
				reason := strings.TrimSuffix(strings.TrimPrefix(r.Name, "stop-the-world ("), ")")
				t.stops = append(t.stops, tracedStop{int64(begun), int64(now), reason})
				delete(stopping, r.Scope)
			}
		}
		last = now
	}
	for id, p := range ps {
		advance(p, last)
		t.ps[id], t.moves[id] = p.acc, p.moves
	}
	for _, es := range t.edges {
		for i := range es {
			es[i].at += toMono
		}
	}
	for i := range t.stops {
		t.stops[i].start += toMono
		t.stops[i].end += toMono
	}
	t.from, t.to = int64(first)+toMono, int64(last)+toMono
	return t, nil
}
