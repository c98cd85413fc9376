package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/bench/internal/processes"
	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// setup is what stays the same from run to run.
type setup struct {
	bin, dir  string
	tool      string // go tool trace as a program of its own; empty: the go command has it
	run, warm time.Duration
	edges     bool
	runtime   bool // compare with the runtime's own log of takes and gives of Ps as well, traced and untraced
	windows   int  // see collector.Options
}

// result compares one run; shares are percentage points.
type result struct {
	Workload string `json:"workload"`
	Ps       string `json:"ps"`

	Busy, BusySeen float64 // mean share of time in which an M has the P, in percent: by the trace, by P-Scope
	Mean, Worst    float64 // error of that share over the Ps
	// mean error of the share of each class, in the order running, gc, syscall, at rest
	ByClass    [classes]float64 `json:"byClass"`
	WorstClass float64          // of any P and class
	SumError   float64          // of the sum of all states against wall time, in percent, worst P
	Moves      float64          // takes and gives seen, as a share of those in the trace

	// in the trace; without a counterpart; off by more than 5 % and 20 µs; with another reason
	Stops, StopsMissed, StopsWrong, ReasonsWrong int
	StopMedian                                   time.Duration // difference in length
	GCStops                                      int           // in the window by P-Scope
	// likewise by the runtime's own histogram, at least and at most
	GCStopsCounted [2]int
	// by how much their sum lies outside of what that histogram allows, in percent; below 0: there was none
	PauseError       float64
	PauseErrorTraced float64 // likewise the sum of those in the trace

	// all threads' time on and waiting for a CPU against /proc/<pid>/task/*/schedstat, in percent of the former's CPU
	// time
	OnCPUError, WaitError float64
	// of both together, likewise: where the kernel draws the line between them does not matter for it
	TogetherError float64
	Unexplained   float64       // the part of OnCPUError that interrupts and stolen time can't explain
	PerBurst      time.Duration // by how much P-Scope's bursts on a CPU are longer than schedstat's, on average

	Runtime, RuntimeUntraced *runtimeResult `json:",omitempty"`

	Reconciled, Lost map[string]uint64
	PerP             []pair `json:"perP"`
}

// pair is one P by both accounts, in percent by class.
type pair struct {
	P           int32
	Trace, Seen [classes]float64
}

func mono() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// wallMinusMono is how far the wall clock is ahead of the monotonic one. On a busy machine a reader is easily
// interrupted between the two.
func wallMinusMono() int64 {
	best, offset := int64(math.MaxInt64), int64(0)
	for range 100 {
		a := mono()
		w := time.Now().UnixNano()
		b := mono()
		if b-a < best {
			best, offset = b-a, w-a-(b-a)/2
		}
	}
	return offset
}

// observation is what P-Scope and the kernel said of one run of the workload, and what the run left behind.
type observation struct {
	seen    []sighting
	threads []threadTimes
	offset  int64 // of the wall clock from CLOCK_MONOTONIC
	sink    *raw
	own     pauses
	trace   string // file, if it was traced
	edges   string // file, if the runtime kept a log of takes and gives of Ps
}

// observe runs the workload once, traced or not, and looks at it from outside.
func (s *setup) observe(load, procs string, traced bool) (*observation, error) {
	o := &observation{sink: &raw{ps: map[int32][]pstate.Interval{}}}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("TRUTH_LOG") != "" {
		log = slog.Default()
	}
	options := collector.Options{Mode: collector.ModeEBPF, Include: regexp.MustCompile("^" + filepath.Base(s.bin) +
		"$"), Sink: o.sink, Log: log, CostBudget: -1, Windows: s.windows}
	if s.edges {
		options.IntervalBudget = 50_000
	}
	c, err := collector.New(options)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	defer wg.Wait()
	defer cancel()

	args := []string{"-run", s.run.String(), "-warm", s.warm.String(), "-procs", procs}
	if traced {
		o.trace = filepath.Join(s.dir, "trace")
		args = append(args, "-trace", o.trace)
	}
	if s.runtime {
		o.edges = filepath.Join(s.dir, "edges")
		args = append(args, "-edges", o.edges)
	}
	cmd := exec.Command(s.bin, append(args, load)...)
	cmd.Stderr = os.Stderr
	var said strings.Builder
	cmd.Stdout = &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	o.offset = wallMinusMono()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
			running = false
		case <-time.After(10 * time.Millisecond):
			for _, v := range c.Views(time.Now()) {
				if v.PID == int32(cmd.Process.Pid) {
					o.seen = append(o.seen, sighting{v.At - o.offset, v})
				}
			}
			if t, err := readThreads(cmd.Process.Pid); err == nil {
				o.threads = append(o.threads, t)
			}
		}
	}
	if len(o.seen) < 2 {
		return nil, fmt.Errorf("the target was not seen: %v", c.Targets())
	}
	if err := json.Unmarshal([]byte(said.String()), &o.own); err != nil {
		return nil, fmt.Errorf("the workload's own counters: %w", err)
	}
	return o, nil
}

func (s *setup) compare(load, procs string) (*result, error) {
	name := load
	if rest, ok := strings.CutPrefix(load, "oversubscribed"); ok {
		end, err := processes.Burn(2 * runtime.NumCPU())
		if err != nil {
			return nil, err
		}
		defer end()
		load = "mixed" + rest
	}
	o, err := s.observe(load, procs, true)
	if err != nil {
		return nil, err
	}
	t, err := readTrace(o.trace, s.tool)
	if err != nil {
		return nil, err
	}
	o.sink.stopsOnly.mu.Lock()
	stops := slices.Clone(o.sink.stops)
	o.sink.stopsOnly.mu.Unlock()
	for i := range stops {
		stops[i].Start -= o.offset
		stops[i].End -= o.offset
	}
	last := o.seen[len(o.seen)-1].view
	if s.edges {
		o.sink.printEdges(os.Stdout, t, o.offset)
		o.sink.printDisagreement(os.Stdout, t, o.offset)
	}
	r := &result{Workload: name, Ps: procs, Reconciled: last.Reconciled, Lost: last.Lost}
	r.compareShares(t, growth(o.seen, t.from, t.to))
	r.compareStops(t, stops, o.own)
	r.compareThreads(t, o.seen, o.offset, o.threads)
	if s.runtime {
		if err := s.compareRuntime(r, o, t, load, procs); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// countsAgree says whether P-Scope saw as many of the GC's stops as the runtime counted.
func (r *result) countsAgree() bool {
	return r.GCStops >= r.GCStopsCounted[0] && r.GCStops <= r.GCStopsCounted[1]
}

func (r *result) compareShares(t *traced, seen map[int32]*seenP) {
	ids := make([]int32, 0, len(seen))
	for id := range seen {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	n := float64(len(ids))
	var movesTraced, movesSeen float64
	for _, id := range ids {
		s := seen[id]
		if _, ok := t.ps[id]; !ok {
			t.ps[id] = account{atRest: t.to - t.from} // it never ran
		}
		p := pair{P: id}
		for c := range classes {
			p.Trace[c], p.Seen[c] = 100*t.share(id, c), 100*s.class(c)
			e := math.Abs(p.Trace[c] - p.Seen[c])
			r.ByClass[c] += e / n
			r.WorstClass = max(r.WorstClass, e)
		}
		e := math.Abs(p.Trace[atRest] - p.Seen[atRest])
		r.Busy += (100 - p.Trace[atRest]) / n
		r.BusySeen += (100 - p.Seen[atRest]) / n
		r.Mean += e / n
		r.Worst = max(r.Worst, e)
		r.SumError = max(r.SumError, math.Abs(s.sum-1)*100)
		movesTraced += float64(t.moves[id])
		movesSeen += s.moves
		r.PerP = append(r.PerP, p)
	}
	r.Moves = movesSeen / max(1, movesTraced)
}

// pauses is what the runtime's own histogram says of the GC's stops in the window: how many, and in ns what their sum
// lies between.
type pauses struct {
	AtLeast, AtMost int
	Least, Most     float64
}

// in is the index of the stop that overlaps this one of the trace, -1 if none does. Those seen lie offset later than
// the trace has them.
func (s tracedStop) in(seen []pstate.Stop, offset int64) int {
	return slices.IndexFunc(seen, func(q pstate.Stop) bool { return q.Start-offset < s.end && q.End-offset > s.start })
}

// compareStops pairs each stop of the trace with the one that overlaps it.
func (r *result) compareStops(t *traced, seen []pstate.Stop, own pauses) {
	var off []time.Duration
	r.Stops = len(t.stops)
	for _, s := range t.stops {
		i := s.in(seen, 0)
		if i < 0 {
			r.StopsMissed++
			continue
		}
		// The stop in which the trace was started is in it from its middle on.
		if d := (seen[i].Duration() - time.Duration(s.end-s.start)).Abs(); s.reason != "start trace" {
			off = append(off, d)
			if d > 20*time.Microsecond && float64(d) > 0.05*float64(s.end-s.start) {
				r.StopsWrong++
			}
		}
		if seen[i].Reason != s.reason {
			r.ReasonsWrong++
		}
	}
	if len(off) > 0 {
		slices.Sort(off)
		r.StopMedian = off[len(off)/2]
	}
	var sum, traced float64
	for _, s := range t.stops {
		if pstate.ForGC(s.reason) && s.end > t.from && s.end <= t.to {
			traced += float64(s.end - s.start)
		}
	}
	for _, s := range seen {
		if pstate.ForGC(s.Reason) && s.End > t.from && s.End <= t.to {
			sum += float64(s.End - s.Start)
			r.GCStops++
		}
	}
	r.GCStopsCounted, r.PauseError, r.PauseErrorTraced = [2]int{own.AtLeast, own.AtMost}, -1, -1
	if own.AtLeast > 0 {
		outside := func(sum float64) float64 { return 100 * max(own.Least-sum, sum-own.Most, 0) / own.Least }
		r.PauseError, r.PauseErrorTraced = outside(sum), outside(traced)
	}
}

func (r *result) compareThreads(t *traced, seen []sighting, offset int64, kernel []threadTimes) {
	begin, end := threadWindow(seen, offset, t.from, t.to)
	a := slices.IndexFunc(kernel, func(k threadTimes) bool { return k.mono >= begin })
	b := slices.IndexFunc(kernel, func(k threadTimes) bool { return k.mono >= end })
	if begin == 0 || end == 0 || a < 0 || b <= a {
		r.OnCPUError, r.Unexplained, r.WaitError, r.TogetherError = -1, -1, -1, -1
		return
	}
	from, to := kernel[a], kernel[b]
	on, wait := float64(to.onCPU-from.onCPU), float64(to.waiting-from.waiting)
	off := threadGrowth(seen, offset, from.mono, to.mono, pstate.OnCPU) - on
	r.OnCPUError = 100 * math.Abs(off) / max(1, on)
	r.PerBurst = time.Duration(off / max(1, float64(to.bursts-from.bursts)))
	// What interrupts and the hypervisor took while a thread had the CPU is in P-Scope's time and not in schedstat's;
	// how much of it fell on these threads nobody knows, at most all.
	r.Unexplained = 100 * max(off-float64(to.taken-from.taken), -off, 0) / max(1, on)
	waited := threadGrowth(seen, offset, from.mono, to.mono, pstate.Runnable) - wait
	r.WaitError = 100 * math.Abs(waited) / max(1, on+wait)
	// Where a thread is woken that finds its CPU idle, the kernel begins to count it as on that CPU with the wake-up,
	// not with the switch: it spares itself the second reading of the clock (kernel/sched/core.c, rq_clock_skip_update
	// in wakeup_preempt). P-Scope has it as runnable until the switch.
	r.TogetherError = 100 * max(off+waited-float64(to.taken-from.taken), -(off+waited), 0) / max(1, on+wait)
}
