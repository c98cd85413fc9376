//go:build linux

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/p-scope/p-scope/bench/internal/report"
)

// shown are the variants in the order of the tables.
var shown = []string{nothing, tier0, tier01, tier012, traced, naive, runqlat}

func (b *bench) markdown() string {
	var t strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&t, format+"\n", a...) }
	p("# What being observed costs a Go program\n")
	p("%s. GOMAXPROCS %d, %d rounds of %s each.", b.Machine, b.Procs, b.Rounds, b.Window)
	p("Made by `go run ./bench/cost -out bench/results`, as root.\n")
	if len(b.Workloads) > 0 && b.Workloads[0].BPF.Share.N > 0 {
		b.probes(p)
	}
	p("## Operations per CPU-second\n")
	p("Cost against nothing attached, the neighbour in the same round: median (quartiles). Below zero: less than the noise. `runtime/trace` writes to nowhere,")
	p("which favours it. Tier 2 (`--migrations`) counts in windows and pays for them in between: its runs are ten times as long. The uprobe runs a program of two instructions. runqlat is bpftrace's script and sees all tasks of the host.\n")
	p("| workload | operations, nothing attached | %s |", strings.Join(shown[1:], " | "))
	p("| --- | --- |%s", strings.Repeat(" --- |", len(shown)-1))
	for _, o := range b.Workloads {
		p("%s", b.row(o))
	}
	if b.NonTarget != nil {
		b.bystander(p)
	}
	for _, name := range slices.Sorted(maps.Keys(b.Absent)) {
		p("\n%s was left out: %s.", name, b.Absent[name])
	}
	return t.String()
}

// probes writes the table of what the kernel's own statistics say.
func (b *bench) probes(p func(format string, a ...any)) {
	p("## Time in BPF programs\n")
	p("Tiers 0 and 1, which is the default, as a share of the target's CPU time. *Host*: all runs of P-Scope's programs on this host by the kernel's own")
	p("run-time statistics, also those for processes that are no target, and with what the statistics cost. *Own*: `pscope_probe_seconds_total`, from")
	p("which the governor steers. `runtime/trace`: what it costs the same process in operations (next table), and how many times that is of *host*.\n")
	p("| workload | switches a CPU-second | host | own | sched_switch | sched_waking | sample | runtime/trace | times |")
	p("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	var sum, worst float64
	for _, o := range b.Workloads {
		ns := func(name string) string {
			s, ok := o.BPF.NsPerRun[name]
			if !ok {
				return "–"
			}
			return fmt.Sprintf("%.0f ns", s.Median)
		}
		share := o.BPF.Share.Median
		sum, worst = sum+share, max(worst, share)
		p("| %s | %.0f | **%.2f %%** (%.2f–%.2f) | %.2f %% | %s | %s | %s | %s | %.0f |", o.Workload, o.Switches, share*100, o.BPF.Share.Low*100, o.BPF.Share.High*100,
			o.BPF.Own.Median*100, ns("sched_switch"), ns("sched_waking"), ns("sample"), percent(o.Cost[traced]), o.Cost[traced].Median/share)
	}
	p("\nMean %.2f %%, worst %.2f %%.\n", sum/float64(len(b.Workloads))*100, worst*100)
}

// bystander writes what a process pays that is no target.
func (b *bench) bystander(p func(format string, a ...any)) {
	o := b.NonTarget
	base := o.OpsPerS[nothing].Median
	p("\n## A process that is no target\n")
	p("Two threads that send a byte through pipes to each other: two context switches a round, %.0f switches a CPU-second.\n", o.Switches)
	if o.BPF.Switch.N > 0 {
		p("- In BPF programs, by the kernel's statistics: %.0f ns a context switch (%.0f–%.0f), for leaving and entering thread and the wake-up.",
			o.BPF.Switch.Median, o.BPF.Switch.Low, o.BPF.Switch.High)
		p("  Of that, %.0f ns a run are the statistics' own: that is what they say of an empty program.", o.BPF.Floor.Median)
	}
	for _, name := range []string{tier01, runqlat} {
		if c, ok := o.Cost[name]; ok {
			p("- By paired runs, with %s attached: %s of its %.0f operations a CPU-second, %.0f ns a context switch.", name, percent(c), base,
				c.Median/(1-c.Median)*1e9/o.Switches)
		}
	}
}

func (b *bench) row(o *outcome) string {
	t := fmt.Sprintf("| %s | %.0f |", o.Workload, o.OpsPerS[nothing].Median)
	for _, name := range shown[1:] {
		t += " " + percent(o.Cost[name]) + " |"
	}
	return t
}

func percent(s report.Spread) string {
	if s.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f %% (%.1f to %.1f)", s.Median*100, s.Low*100, s.High*100)
}
