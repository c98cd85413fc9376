// Command truth runs workloads that trace themselves with runtime/trace, observes them from outside at the same time, and prints both
// accounts of every P side by side.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/exp/trace"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/pstate"
)

func main() {
	loads := flag.String("workloads", "cpu,channel,echo,http,sleepers,writes,gc,allocwait,locked,mixed", "comma-separated")
	procs := flag.String("procs", "2,8", "GOMAXPROCS values, comma-separated")
	run := flag.Duration("run", 3*time.Second, "length of each trace")
	verbose := flag.Bool("v", false, "print every P")
	flag.Parse()
	if err := compareAll(strings.Split(*loads, ","), strings.Split(*procs, ","), *run, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "truth:", err)
		os.Exit(1)
	}
}

func compareAll(loads, procs []string, run time.Duration, verbose bool) error {
	dir, err := os.MkdirTemp("", "pscope-truth")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "workload")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/p-scope/p-scope/bench/truth/workload").CombinedOutput(); err != nil {
		return fmt.Errorf("build the workload: %w\n%s", err, out)
	}
	fmt.Printf("%-10s %4s  %8s %8s  %7s %7s  %6s %6s %8s  %s\n", "workload", "Ps", "trace", "pscope", "mean", "worst", "stops", "missed", "error", "repairs, losses")
	for _, l := range loads {
		for _, p := range procs {
			r, err := compare(bin, dir, l, p, run)
			if err != nil {
				return fmt.Errorf("%s with %s Ps: %w", l, p, err)
			}
			r.print(l, p, verbose)
		}
	}
	return nil
}

// sighting is one view of the target.
type sighting struct {
	mono int64
	view pstate.TargetView
}

type result struct {
	trace, scope map[int32]float64 // share of time with an M running or in a syscall, by P
	detail       map[int32][pstate.NumStates]float64
	stops        []stop // as the trace has them
	seen         []pstate.Stop
	repaired     map[string]uint64
	lost         map[string]uint64
	offset       int64 // from the monotonic clock to Unix time
}

type stop struct{ start, end int64 }

func mono() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
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

func compare(bin, dir, load, procs string, run time.Duration) (*result, error) {
	sink := &stopsOnly{}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("TRUTH_LOG") != "" {
		log = slog.Default()
	}
	c, err := collector.New(collector.Options{Mode: collector.ModeEBPF, Include: regexp.MustCompile("^workload$"), Sink: sink, Log: log})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	defer wg.Wait()
	defer cancel()

	out := filepath.Join(dir, "trace")
	cmd := exec.Command(bin, "-trace", out, "-run", run.String(), "-procs", procs, load)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var seen []sighting
	offset := time.Now().UnixNano() - mono()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
			running = false
		case <-time.After(5 * time.Millisecond):
			for _, v := range c.Views(time.Now()) {
				if v.PID == int32(cmd.Process.Pid) {
					seen = append(seen, sighting{v.At - offset, v})
				}
			}
		}
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("the target was never seen: %v", c.Targets())
	}
	r, from, to, err := readTrace(out)
	if err != nil {
		return nil, err
	}
	r.scope, r.detail = shares(seen, from, to)
	r.offset = offset
	sink.mu.Lock()
	r.seen = slices.Clone(sink.stops)
	sink.mu.Unlock()
	last := seen[len(seen)-1].view
	r.repaired, r.lost = last.Reconciled, last.Lost
	return r, nil
}

// shares is the growth of the totals between two instants of the monotonic clock, interpolated between sightings.
func shares(seen []sighting, from, to int64) (map[int32]float64, map[int32][pstate.NumStates]float64) {
	at := func(t int64) map[int32][pstate.NumStates]float64 {
		i := max(1, slices.IndexFunc(seen, func(s sighting) bool { return s.mono >= t }))
		a, b := seen[i-1], seen[i]
		f := float64(t-a.mono) / float64(b.mono-a.mono)
		out := map[int32][pstate.NumStates]float64{}
		for j := range b.view.Ps {
			q := &b.view.Ps[j]
			var v [pstate.NumStates]float64
			for s := range v {
				y := float64(q.StateTime(pstate.State(s)))
				if j < len(a.view.Ps) {
					x := float64(a.view.Ps[j].StateTime(pstate.State(s)))
					y = x + (y-x)*f
				}
				v[s] = y
			}
			out[q.P] = v
		}
		return out
	}
	a, b := at(from), at(to)
	busy, detail := map[int32]float64{}, map[int32][pstate.NumStates]float64{}
	for p, y := range b {
		x := a[p]
		var d [pstate.NumStates]float64
		for s := range d {
			d[s] = (y[s] - x[s]) / float64(to-from)
		}
		detail[p] = d
		busy[p] = d[pstate.Running] + d[pstate.GC] + d[pstate.Syscall]
	}
	return busy, detail
}

// readTrace gives the share of time each P was running by the trace's own account, and the window it covers on the monotonic clock.
func readTrace(path string) (r *result, from, to int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, 0, err
	}
	defer f.Close()
	rd, err := trace.NewReader(f)
	if err != nil {
		return nil, 0, 0, err
	}
	r = &result{trace: map[int32]float64{}}
	since := map[int32]trace.Time{}
	busy := map[int32]int64{}
	var toMono int64
	var first, last trace.Time
	stopping := map[trace.ResourceID]trace.Time{}
	for {
		ev, err := rd.ReadEvent()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, 0, err
		}
		switch ev.Kind() {
		case trace.EventSync:
			if c := ev.Sync().ClockSnapshot; c != nil && toMono == 0 {
				toMono = int64(c.Mono) - int64(c.Trace)
			}
			continue
		case trace.EventStateTransition:
			st := ev.StateTransition()
			if st.Resource.Kind != trace.ResourceProc {
				break
			}
			id := int32(st.Resource.Proc())
			_, now := st.Proc()
			if t, ok := since[id]; ok {
				busy[id] += int64(ev.Time() - t)
				delete(since, id)
			}
			if _, known := r.trace[id]; !known {
				r.trace[id] = 0
			}
			if now == trace.ProcRunning {
				since[id] = ev.Time()
			}
		case trace.EventRangeBegin:
			if strings.HasPrefix(ev.Range().Name, "stop-the-world") {
				stopping[ev.Range().Scope] = ev.Time()
			}
		case trace.EventRangeEnd:
			if t, ok := stopping[ev.Range().Scope]; ok && strings.HasPrefix(ev.Range().Name, "stop-the-world") {
				r.stops = append(r.stops, stop{int64(t), int64(ev.Time())})
				delete(stopping, ev.Range().Scope)
			}
		}
		if first == 0 {
			first = ev.Time()
		}
		last = ev.Time()
	}
	for id, t := range since {
		busy[id] += int64(last - t)
	}
	for id := range r.trace {
		r.trace[id] = float64(busy[id]) / float64(last-first)
	}
	for i := range r.stops {
		r.stops[i].start += toMono
		r.stops[i].end += toMono
	}
	return r, int64(first) + toMono, int64(last) + toMono, nil
}

func (r *result) print(load, procs string, verbose bool) {
	var sumT, sumS, mean, worst float64
	n := 0
	for p, s := range r.scope {
		t := r.trace[p]
		sumT += t
		sumS += s
		e := math.Abs(t-s) * 100
		mean += e
		worst = max(worst, e)
		n++
	}
	off, missed := r.stopErrors()
	fmt.Printf("%-10s %4s  %7.2f%% %7.2f%%  %6.2fp %6.2fp  %6d %6d %8v  %v %v\n", load, procs, sumT/float64(n)*100, sumS/float64(n)*100,
		mean/float64(n), worst, len(r.stops), missed, off, r.repaired, r.lost)
	if !verbose {
		return
	}
	for p := range int32(n) {
		d := r.detail[p]
		fmt.Printf("    P%-3d trace %6.2f%%  pscope %6.2f%%   idle %6.2f run %6.2f sys %6.2f gcstop %6.2f dead %6.2f gc %6.2f\n", p, r.trace[p]*100, r.scope[p]*100,
			d[0]*100, d[1]*100, d[2]*100, d[3]*100, d[4]*100, d[5]*100)
	}
}

// stopErrors pairs each stop of the trace with the one that overlaps it, and gives the median difference in length, and how many have no counterpart. The
// stop that ends the trace is not in the window.
func (r *result) stopErrors() (median time.Duration, missed int) {
	var off []time.Duration
	for _, s := range r.stops {
		i := slices.IndexFunc(r.seen, func(q pstate.Stop) bool { return q.Start-r.offset < s.end && q.End-r.offset > s.start })
		if i < 0 {
			missed++
			continue
		}
		off = append(off, (r.seen[i].Duration() - time.Duration(s.end-s.start)).Abs())
	}
	if len(off) == 0 {
		return 0, missed
	}
	slices.Sort(off)
	return off[len(off)/2], missed
}
