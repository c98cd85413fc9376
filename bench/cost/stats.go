//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/bench/internal/report"
)

// program is a BPF program's run-time statistics at one moment.
type program struct {
	name string
	runs uint64
	time time.Duration
}

// scopePrograms are the programs of bpf/, by the names the kernel knows them by.
var scopePrograms = map[string]bool{
	"sched_switch": true, "sched_waking": true, "sample": true, "stop_world": true, "start_world": true,
	"world_started": true, "exec": true,
	"process_exit": true, "execute": true, floorName: true,
}

// floorName is a program that does nothing: what the statistics say of it is what they cost themselves.
const floorName = "floor"

func attachFloor() (detach func(), err error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: floorName, Type: ebpf.RawTracepoint, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return nil, err
	}
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sched_waking", Program: prog})
	if err != nil {
		_ = prog.Close()
		return nil, err
	}
	return func() { _ = l.Close(); _ = prog.Close() }, nil
}

// programs reads the statistics of P-Scope's programs, but not those of foreign, which another agent on this host has
// loaded.
func programs(foreign map[ebpf.ProgramID]program) (map[ebpf.ProgramID]program, error) {
	out := map[ebpf.ProgramID]program{}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, unix.ENOENT) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		id = next
		if _, other := foreign[id]; other {
			continue
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // unloaded meanwhile
		}
		info, err := p.Info()
		if err == nil && scopePrograms[info.Name] {
			if s, err := p.Stats(); err == nil {
				out[id] = program{info.Name, s.RunCount, s.Runtime}
			}
		}
		_ = p.Close()
	}
}

// sums collects what the rounds measured of BPF programs.
type sums struct {
	share, net, own, perSwitch, floor []float64
	perRun, runs                      map[string][]float64
}

// take runs one more window with the kernel's statistics on. They cost a few tens of nanoseconds a run themselves,
// which is why operations are counted in a window without.
func (s *sums) take(w *workload, v *variant, d time.Duration) error {
	detach, err := attachFloor()
	if err != nil {
		return err
	}
	defer detach()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return fmt.Errorf("BPF run-time statistics: %w", err)
	}
	defer stats.Close()
	own := func() time.Duration {
		t, _ := v.view(w)
		return t.ProbeTime["0+1"]
	}
	ownBefore := own()
	before, err := programs(v.foreign)
	if err != nil {
		return err
	}
	got, err := w.window(d)
	if err != nil {
		return err
	}
	after, err := programs(v.foreign)
	if err != nil {
		return err
	}
	if s.perRun == nil {
		s.perRun, s.runs = map[string][]float64{}, map[string][]float64{}
	}
	var total, scheduling time.Duration
	var switches, runs uint64
	var floorNs float64
	for id, a := range after {
		b := before[id]
		n, t := a.runs-b.runs, a.time-b.time
		if n == 0 {
			continue
		}
		if a.name == floorName {
			floorNs = float64(t) / float64(n)
			s.floor = append(s.floor, floorNs)
			continue
		}
		total += t
		runs += n
		s.perRun[a.name] = append(s.perRun[a.name], float64(t)/float64(n))
		s.runs[a.name] = append(s.runs[a.name], float64(n)/got.CPU.Seconds())
		switch a.name {
		case "sched_switch":
			switches += n
			scheduling += t
		case "sched_waking":
			scheduling += t
		}
	}
	s.share = append(s.share, float64(total)/float64(got.CPU))
	s.net = append(s.net, (float64(total)-float64(runs)*floorNs)/float64(got.CPU))
	s.own = append(s.own, float64(own()-ownBefore)/float64(got.CPU))
	if switches > 0 {
		s.perSwitch = append(s.perSwitch, float64(scheduling)/float64(switches))
	}
	return nil
}

func (s *sums) result() bpfShare {
	out := bpfShare{
		Share: report.SpreadOf(s.share), Net: report.SpreadOf(s.net), Own: report.SpreadOf(s.own),
		Switch: report.SpreadOf(s.perSwitch), Floor: report.SpreadOf(s.floor),
		NsPerRun: spreads(s.perRun), RunsPerS: map[string]float64{},
	}
	for name, n := range s.runs {
		out.RunsPerS[name] = report.SpreadOf(n).Median
	}
	return out
}
