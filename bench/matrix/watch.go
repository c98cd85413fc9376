package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// live is what was seen of a running program, and what the kernel and the program itself said of the same time.
type live struct {
	Source     string  `json:"source"`
	OnCPUMs    float64 `json:"on_cpu_ms"`   // of all Ps, as observed
	ThreadsMs  float64 `json:"threads_ms"`  // of all threads, as the kernel accounts it
	CarriersMs float64 `json:"carriers_ms"` // of those that have carried a P
	// at most between the looks at the two, on a machine that is busy
	ApartMs          float64           `json:"apart_ms"`
	BusyShares       []float64         `json:"busy_shares"`
	WallErrorPercent float64           `json:"wall_error_percent"`
	SchedTicks       uint64            `json:"sched_ticks"`
	Collections      int               `json:"collections"`
	SweepStops       int               `json:"sweep_stops"`
	MarkStops        int               `json:"mark_stops"`
	Lost             map[string]uint64 `json:"lost,omitempty"`
	Reconciled       map[string]uint64 `json:"reconciled,omitempty"`
}

// stops collects the stops of all targets.
type stops struct {
	mu    sync.Mutex
	byKey map[pstate.Key][]pstate.Stop
}

func (s *stops) Append(pstate.Key, []pstate.Interval) {}
func (s *stops) Lost(pstate.Key, string, uint64)      {}
func (s *stops) End(pstate.Key, int64)                {}
func (s *stops) AppendStop(k pstate.Key, st pstate.Stop) {
	s.mu.Lock()
	s.byKey[k] = append(s.byKey[k], st)
	s.mu.Unlock()
}

// named counts the stops with one reason.
func (s *stops) named(k pstate.Key, reason string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.byKey[k] {
		if st.Reason == reason {
			n++
		}
	}
	return n
}

// child is a running program.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(path string) (*child, error) {
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=3")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd, in, bufio.NewReader(out)}
	if line, err := c.out.ReadString('\n'); line != "ready\n" {
		c.kill()
		return nil, fmt.Errorf("%s said %q: %v", filepath.Base(path), line, err)
	}
	return c, nil
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// cpu is the CPU time of each thread of a process as the kernel accounts it, by its path in /proc.
func cpu(pid int) map[string]time.Duration {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	out := map[string]time.Duration{}
	for _, f := range files {
		var ns int64
		b, _ := os.ReadFile(f)
		_, _ = fmt.Sscan(string(b), &ns)
		out[f] = time.Duration(ns)
	}
	return out
}

// passed is what of that passed between two looks: for all threads, and for those known to have carried a P: sysmon,
// which never does, can be a tenth of the whole.
func passed(before, after map[string]time.Duration, v *pstate.TargetView) (all, carriers time.Duration) {
	for f := range after {
		all += max(after[f]-before[f], 0)
	}
	for _, th := range v.Threads {
		if f := fmt.Sprintf("/proc/%d/task/%d/schedstat", v.PID, th.TID); th.P >= 0 {
			carriers += max(after[f]-before[f], 0)
		}
	}
	return all, carriers
}

// watch runs programs one after another, observed by one collector, and enters into their rows what was seen and what
// is wrong with it.
func watch(paths map[*row]string, run time.Duration) error {
	seen := &stops{byKey: map[pstate.Key][]pstate.Stop{}}
	c, err := collector.New(collector.Options{Mode: collector.ModeEBPF, Include: regexp.MustCompile("/matrix-"),
		Sink: seen})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	for r, path := range paths {
		l, err := watchOne(c, seen, path, run)
		if err != nil {
			r.Complaints = append(r.Complaints, err.Error())
			continue
		}
		r.Live = l
		r.Complaints = append(r.Complaints, l.complaints()...)
	}
	return nil
}

func watchOne(c collector.Collector, seen *stops, path string, run time.Duration) (*live, error) {
	p, err := start(path)
	if err != nil {
		return nil, err
	}
	defer p.kill()
	pid := p.cmd.Process.Pid
	view := func() *pstate.TargetView {
		for _, v := range c.Views(time.Now()) {
			if v.PID == int32(pid) {
				return &v
			}
		}
		return nil
	}
	for deadline := time.Now().Add(10 * time.Second); view() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("not observed: %s", reason(c, pid))
		}
	}
	if _, err := io.WriteString(p.in, "go\n"); err != nil {
		return nil, err
	}
	time.Sleep(200 * time.Millisecond)
	began := time.Now()
	a, cpu0 := view(), cpu(pid)
	apart := time.Since(began)
	time.Sleep(run)
	began = time.Now()
	b, cpu1 := view(), cpu(pid)
	apart += time.Since(began)
	if a == nil || b == nil {
		return nil, fmt.Errorf("no longer observed: %s", reason(c, pid))
	}
	all, carriers := passed(cpu0, cpu1, b)
	l := &live{Source: string(b.Source), ThreadsMs: all.Seconds() * 1e3, CarriersMs: carriers.Seconds() * 1e3,
		ApartMs: apart.Seconds() * 1e3, Lost: b.Lost, Reconciled: b.Reconciled}
	wall := b.At - a.At
	for i := range min(len(a.Ps), len(b.Ps)) {
		x, y := &a.Ps[i], &b.Ps[i]
		l.OnCPUMs += (y.ThreadTime(pstate.OnCPU) - x.ThreadTime(pstate.OnCPU)).Seconds() * 1e3
		l.SchedTicks += y.SchedTick - x.SchedTick
		var sum, busy time.Duration
		for s := range pstate.NumStates {
			d := y.StateTime(pstate.State(s)) - x.StateTime(pstate.State(s))
			sum += d
			switch pstate.State(s) {
			case pstate.Running, pstate.Syscall, pstate.GC:
				busy += d
			}
		}
		l.BusyShares = append(l.BusyShares, math.Round(float64(busy)/float64(wall)*1e4)/1e4)
		l.WallErrorPercent = max(l.WallErrorPercent, math.Abs(float64(sum)/float64(wall)-1)*100)
	}
	if _, err := io.WriteString(p.in, "end\n"); err != nil {
		return nil, err
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("it ended too early: %w", err)
	}
	if _, err := fmt.Sscanf(line, "collections %d", &l.Collections); err != nil {
		return nil, fmt.Errorf("it said %q: %w", line, err)
	}
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		l.SweepStops, l.MarkStops = seen.named(b.Key, "GC sweep termination"), seen.named(b.Key, "GC mark termination")
		if l.MarkStops >= l.Collections || time.Now().After(deadline) {
			return l, nil
		}
	}
}

func reason(c collector.Collector, pid int) string {
	for _, t := range c.Targets() {
		if t.PID == int32(pid) {
			return strings.TrimSpace(string(t.Source) + " " + t.Reason)
		}
	}
	return "not found"
}

// complaints says what does not hold. A thread that has given its P away and is about to sleep is in the kernel's
// account and not in the Ps', and a running thread's account lags by a tick.
func (l *live) complaints() (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if l.Source != string(pstate.SourceEBPF) {
		say("observed by %s", l.Source)
	}
	if slack := 20 + 2*l.ApartMs; l.OnCPUMs > l.ThreadsMs*1.02+slack || l.OnCPUMs < l.CarriersMs*0.8-slack {
		say("its Ps were on a CPU for %.0f ms, its threads for %.0f ms", l.OnCPUMs, l.ThreadsMs)
	}
	if l.WallErrorPercent > 0.1 {
		say("the states of a P do not sum to wall time")
	}
	if l.SchedTicks == 0 {
		say("no P has scheduled anything")
	}
	if l.Collections == 0 || l.SweepStops != l.Collections || l.MarkStops != l.Collections {
		say("%d collections, %d and %d stops for them", l.Collections, l.SweepStops, l.MarkStops)
	}
	return out
}
