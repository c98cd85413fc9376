// Package viewtest makes views of targets that do not exist, for tests and benchmarks of what lies behind the
// collector. Their totals obey what the collector promises: they never decrease, and the states of a P sum to the time
// since it was first seen.
package viewtest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Source is a collector of made-up targets. P number p of every target is busy 1/(p+1) of the time.
type Source struct {
	mu      sync.Mutex
	started time.Time
	targets []*target
	// Refused are listed by Targets besides the observed ones.
	Refused []pstate.Target
	// Info is what Agent gives.
	Info  collector.AgentInfo
	looks int
	// StoodStill is for how long LastRound says that the loop has not gone round.
	StoodStill atomic.Int64 // nanoseconds
}

type target struct {
	view  pstate.TargetView
	ended bool
}

// New makes targets with ps Ps each, first seen at started.
func New(targets, ps int, started time.Time) *Source {
	s := &Source{started: started, Info: collector.AgentInfo{Mode: "ebpf", Kernel: "6.18.0", Arch: "amd64"}}
	for i := range targets {
		v := pstate.TargetView{
			Target: pstate.Target{
				Key: pstate.Key{PID: int32(1000 + i), StartTime: uint64(77 + i)}, Process: fmt.Sprintf("server-%d", i),
				Exe: fmt.Sprintf("/usr/bin/server-%d", i), GoVersion: "go1.26.8", Source: pstate.SourceEBPF,
				Layout:  pstate.LayoutDWARF,
				Started: started.Add(-time.Minute), Cgroup: fmt.Sprintf("/system.slice/server-%d.service", i),
			},
			GOMAXPROCS: int32(ps), StopHist: map[string]pstate.Histogram{}, Lost: map[string]uint64{},
			Reconciled: map[string]uint64{}, ProbeTime: map[string]time.Duration{},
		}
		for p := range ps {
			v.Ps = append(v.Ps, pstate.PView{P: int32(p), FirstSeen: started.UnixNano(), TID: int32(1000 + i + p),
				State: pstate.Running, Thread: pstate.OnCPU})
		}
		s.targets = append(s.targets, &target{view: v})
	}
	return s
}

// Views implements collector.Collector.
func (s *Source) Views(now time.Time) []pstate.TargetView {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	var out []pstate.TargetView
	for _, t := range s.targets {
		if !t.ended {
			t.advance(now, s.started)
			v := t.view
			v.Ps = append([]pstate.PView(nil), v.Ps...)
			v.Threads = append([]pstate.ThreadView(nil), v.Threads...)
			out = append(out, v)
		}
	}
	return out
}

func (t *target) advance(now, started time.Time) {
	v := &t.view
	v.At = now.UnixNano()
	life := now.Sub(started)
	v.ProbeTime = map[string]time.Duration{"0": life / 1000}
	for i := range v.Ps {
		p := &v.Ps[i]
		busy := life / time.Duration(i+1)
		p.Time = [pstate.NumStates][pstate.NumThreadStates]time.Duration{}
		p.Time[pstate.Running][pstate.OnCPU] = busy * 9 / 10
		p.Time[pstate.Running][pstate.Runnable] = busy / 20
		p.Time[pstate.GC][pstate.OnCPU] = busy - busy*9/10 - busy/20
		p.Time[pstate.Idle][pstate.NoThread] = life - busy
		p.SchedTick = uint64(life / time.Millisecond)
		p.SyscallTick = uint64(life / (10 * time.Millisecond))
		p.Since = v.At - int64(time.Duration(i+1)*time.Millisecond)
		p.RunqDepth = int32((int(life/time.Second) + i) % 5)
		p.Transitions[pstate.Running][pstate.Idle] = uint64(life / time.Millisecond)
		p.Transitions[pstate.Idle][pstate.Running] = uint64(life / time.Millisecond)
		p.RunqHist = [pstate.RunqBuckets]uint64{0: uint64(life / (200 * time.Millisecond)),
			2: uint64(life / (300 * time.Millisecond))}
		p.RunqSum = 2 * p.RunqHist[2]
		p.WakeWait = pstate.Histogram{}
		for b := 10; b < 20; b++ {
			p.WakeWait.Buckets[b] = uint64(life/time.Millisecond) / uint64(b)
			p.WakeWait.Count += p.WakeWait.Buckets[b]
		}
		p.WakeWait.Sum = life / 1000
	}
}

// Targets implements collector.Collector.
func (s *Source) Targets() []pstate.Target {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := append([]pstate.Target(nil), s.Refused...)
	for _, t := range s.targets {
		if !t.ended {
			out = append(out, t.view.Target)
		}
	}
	return out
}

// Agent implements collector.Collector.
func (s *Source) Agent() collector.AgentInfo { return s.Info }

// LastRound implements collector.Collector.
func (s *Source) LastRound() time.Time { return time.Now().Add(-time.Duration(s.StoodStill.Load())) }

// Looks counts the calls of Views.
func (s *Source) Looks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

// Key of target i.
func (s *Source) Key(i int) pstate.Key { return s.targets[i].view.Key }

// Change edits the view of target i; what advances with time is overwritten by the next look.
func (s *Source) Change(i int, edit func(v *pstate.TargetView)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(&s.targets[i].view)
}

// End lets target i end.
func (s *Source) End(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets[i].ended = true
}
