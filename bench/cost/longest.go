//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"github.com/p-scope/p-scope/bench/internal/report"
	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// longestRuns is what -longest measures, and what longest.json holds: how long single runs of the scheduler's programs
// take.
type longestRuns struct {
	Machine report.Machine `json:"machine"`
	Window  string         `json:"window"`
	Rows    []longestRow   `json:"rows"`
}

// longestRow is one workload on so many Ps.
type longestRow struct {
	Workload string               `json:"workload"`
	Procs    int                  `json:"gomaxprocs"`
	Runs     map[string]runLength `json:"runs"` // by program
}

// runLength is the distribution of the runs of a program, in ns. Quantiles are upper bounds of 64 ns; absent above the
// last bucket.
type runLength struct {
	Count   uint64  `json:"count"`
	Mean    float64 `json:"mean"`
	P50     uint64  `json:"p50"`
	P99     uint64  `json:"p99"`
	P999    uint64  `json:"p999"`
	Longest uint64  `json:"longest"`
	// Over is how many runs took longer than the last bucket's bound.
	Over uint64 `json:"over"`
}

// timedPrograms names enum timed_program of bpf/run_times.h.
var timedPrograms = []struct {
	name string
	key  kern.ScopeTimedProgram
}{
	{"sched_switch", kern.ScopeTimedProgramTIMED_SWITCH},
	{"sched_waking", kern.ScopeTimedProgramTIMED_WAKING},
	{"clock", kern.ScopeTimedProgramTIMED_CLOCK},
}

// measureLongest runs every workload on every number of Ps, with nothing left out.
func measureLongest(bin string, loads []string, procs []int, window time.Duration) (*longestRuns, error) {
	out := &longestRuns{Machine: report.ThisMachine(), Window: window.String()}
	for _, load := range loads {
		if load == bystander {
			continue
		}
		for _, n := range procs {
			row, err := longestOf(bin, load, n, window)
			if err != nil {
				return nil, fmt.Errorf("%s on %d Ps: %w", load, n, err)
			}
			out.Rows = append(out.Rows, *row)
			fmt.Fprint(os.Stderr, row.line())
		}
	}
	return out, nil
}

func longestOf(bin, load string, procs int, window time.Duration) (*longestRow, error) {
	w, err := startWorkload(bin, load, procs)
	if err != nil {
		return nil, err
	}
	defer w.close()
	before, err := runTimesMaps()
	if err != nil {
		return nil, err
	}
	v := &variant{name: tier01}
	detach, err := v.observe(w, collector.Options{CostBudget: -1, TimeRuns: true})
	if err != nil {
		return nil, err
	}
	defer detach()
	after, err := runTimesMaps()
	if err != nil {
		return nil, err
	}
	for id := range before {
		delete(after, id)
	}
	if len(after) != 1 {
		return nil, fmt.Errorf("%d new maps have the times of runs", len(after))
	}
	time.Sleep(settled)
	if _, err := w.window(window); err != nil {
		return nil, err
	}
	row := &longestRow{Workload: load, Procs: procs, Runs: map[string]runLength{}}
	for id := range after {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, err
		}
		defer m.Close()
		for _, p := range timedPrograms {
			var cpus []kern.ScopeRunLengths
			if err := m.Lookup(uint32(p.key), &cpus); err != nil {
				return nil, err
			}
			row.Runs[p.name] = lengthOf(cpus)
		}
	}
	return row, nil
}

// runTimesMaps finds the maps of that name.
func runTimesMaps() (map[ebpf.MapID]bool, error) {
	found := map[ebpf.MapID]bool{}
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if err != nil {
			return found, nil // that was the last
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue // it is gone
		}
		info, err := m.Info()
		if err == nil && info.Name == kern.ScopeMapRunTimes {
			found[id] = true
		}
		m.Close()
	}
}

const bucketNs = 1 << kern.ScopeRunTimesBoundsRUN_BUCKET_SHIFT

func lengthOf(cpus []kern.ScopeRunLengths) (l runLength) {
	const buckets = len(kern.ScopeRunLengths{}.Count)
	var all [buckets]uint64
	var sum uint64
	for i := range cpus {
		for b, n := range cpus[i].Count {
			all[b] += n
			l.Count += n
		}
		sum += cpus[i].Sum
		l.Longest = max(l.Longest, cpus[i].Longest)
	}
	l.Over = all[buckets-1]
	if l.Count == 0 {
		return l
	}
	l.Mean = float64(sum) / float64(l.Count)
	quantile := func(per1000 uint64) uint64 {
		var seen uint64
		for b, n := range all {
			if seen += n; seen*1000 >= l.Count*per1000 {
				if b == buckets-1 {
					return l.Longest
				}
				return uint64(b+1) * bucketNs
			}
		}
		return l.Longest
	}
	l.P50, l.P99, l.P999 = quantile(500), quantile(990), quantile(999)
	return l
}

func (r *longestRow) line() string {
	s := fmt.Sprintf("| %s | %d |", r.Workload, r.Procs)
	for _, p := range timedPrograms {
		l := r.Runs[p.name]
		if p.name == "clock" {
			s += fmt.Sprintf(" %.0f | %d | %.1f |\n", l.Mean, l.P999, float64(l.Longest)/1000)
			break
		}
		s += fmt.Sprintf(" %d | %.0f | %.1f | %.1f | %.1f |", l.Count, l.Mean, float64(l.P99)/1000,
			float64(l.P999)/1000, float64(l.Longest)/1000)
	}
	return s
}

func (r *longestRuns) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# How long single runs of the scheduler's programs take

%s. Windows of %s with nothing left out, from %s after the beginning on.
Made by `+"`go run ./bench/cost -longest -out bench/results`"+`, as root.

The programs time their own runs for targets (`+"`bpf/run_times.h`"+`), without the way into the program and the look-up of the target, and with one more
look at the clock. `+"`sched_switch`"+` runs with the run queue's lock held. *Clock* is two looks at the clock one after the other at the end of each run: what takes long there
is an interrupt, a stop of the CPU by the hypervisor, or the cache, and not P-Scope; so do the longest runs contain it.

| workload | Ps | sched_switch: runs | mean, ns | 99 %%, µs | 99.9 %%, µs | longest, µs | sched_waking: runs | mean, ns | 99 %%, µs | 99.9 %%, µs | longest, µs | clock: mean, ns | 99.9 %%, ns | longest, µs |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
`, r.Machine, r.Window, settled)
	for i := range r.Rows {
		b.WriteString(r.Rows[i].line())
	}
	return b.String()
}
