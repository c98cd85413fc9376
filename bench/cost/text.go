//go:build linux

package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/p-scope/p-scope/bench/internal/report"
)

// shown are the variants in the order of the tables.
var shown = []string{nothing, again, tier0, tier01, tier012, traced, naive, runqlat}

func (b *bench) markdown() string {
	var t strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&t, format+"\n", a...) }
	p("# What being observed costs a Go program\n")
	p("%s. GOMAXPROCS %d, %d rounds of %s each.", b.Machine, b.Procs, b.Rounds, b.Window)
	p("Made by `go run ./bench/cost -out bench/results`, as root, workload by workload (`-workloads`, `-merge`).\n")
	if len(b.Workloads) > 0 && b.Workloads[0].BPF.Share.N > 0 {
		b.probes(p)
	}
	p("## Operations per CPU-second\n")
	p("Cost against nothing attached, in the same round: median (quartiles). *Nothing, again* is the second run of " +
		"nothing against the first: the noise.")
	p("`runtime/trace` writes to nowhere, which favours it. Tier 2 (`--migrations`) counts in windows and pays for " +
		"them in between: its runs are ten times as long. The uprobe runs a program of two instructions. runqlat is " +
		"bpftrace's script and sees all tasks of the host.\n")
	p("| workload | operations, nothing attached | %s |", strings.Join(shown[1:], " | "))
	p("| --- | --- |%s", strings.Repeat(" --- |", len(shown)-1))
	for _, o := range b.Workloads {
		p("%s", b.row(o))
	}
	b.throughput(p)
	for _, o := range b.Workloads {
		for _, name := range slices.Sorted(maps.Keys(o.Absent)) {
			p("\n%s, %s: %s.", o.Workload, name, o.Absent[name])
		}
	}
	if b.NonTarget != nil {
		b.bystander(p)
	}
	return t.String()
}

// probes writes the table of what the kernel's own statistics say.
func (b *bench) probes(p func(format string, a ...any)) {
	p("## Time in BPF programs\n")
	p("Tiers 0 and 1 with nothing left out, as a share of the target's CPU time, from %v after the beginning on: in "+
		"its first five seconds the observation learns,", settled)
	p("with ten times the samples. *As installed*: what remains of *net* under the usual budget, 2 %%, in the %v that "+
		"begin %v after the beginning, and what the governor leaves out for it. *Host*: all runs of P-Scope's "+
		"programs on this host by the kernel's own", installedFor, governed)
	p("run-time statistics, also those for processes that are no target, and with what the statistics cost. *Own*: " +
		"`pscope_probe_seconds_total`, from")
	p("which the governor steers. *Net*: host less what the statistics themselves cost, which is what they say of an " +
		"empty program in the same window; they")
	p("are off in production, so this is what a target pays. `runtime/trace`: what it costs the same process in " +
		"operations (next table), and how many times")
	p("that is of *host*.\n")
	p("| workload | switches a CPU-second | net | as installed | host | empty program | own | sched_switch | " +
		"sched_waking | sample | runtime/trace | times |")
	p("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	var sum, worst, sumNet, worstNet, sumAsIs, worstAsIs, nAsIs float64
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
		net := o.BPF.Net
		sumNet, worstNet = sumNet+net.Median, max(worstNet, net.Median)
		times := "–"
		if c := o.Cost[traced]; c.N > 0 {
			times = fmt.Sprintf("%.0f", c.Median/share)
		}
		installed := "–"
		if i := o.Installed.Net; i.N > 0 {
			installed = fmt.Sprintf("%.2f %%", i.Median*100)
			sumAsIs, worstAsIs, nAsIs = sumAsIs+i.Median, max(worstAsIs, i.Median), nAsIs+1
			if o.LeftOut != "" {
				installed += ": " + o.LeftOut
			}
		}
		p("| %s | %.0f | **%.2f %%** (%.2f–%.2f) | %s | %.2f %% | %.0f ns | %.2f %% | %s | %s | %s | %s | %s |",
			o.Workload, o.Switches, net.Median*100, net.Low*100, net.High*100, installed,
			share*100, o.BPF.Floor.Median, o.BPF.Own.Median*100, ns("sched_switch"), ns("sched_waking"), ns("sample"),
			percent(o.Cost[traced]), times)
	}
	n := float64(len(b.Workloads))
	p("\nNet: mean %.2f %%, worst %.2f %%. Host, with what the statistics cost: mean %.2f %%, worst %.2f %%.\n",
		sumNet/n*100, worstNet*100, sum/n*100, worst*100)
	if nAsIs > 0 {
		p("As installed: mean %.2f %%, worst %.2f %%.\n", sumAsIs/nAsIs*100, worstAsIs*100)
	}
}

// throughput says on which workloads operations tell tier 0+1 from nothing: where the quartiles of its cost and those
// of the noise do not overlap.
func (b *bench) throughput(p func(format string, a ...any)) {
	var told []string
	n, widest := 0, 0.0
	for _, o := range b.Workloads {
		noise, c := o.Cost[again], o.Cost[tier01]
		if noise.N == 0 || c.N == 0 {
			continue
		}
		n++
		widest = max(widest, math.Abs(noise.Low), math.Abs(noise.High))
		if c.Low > max(noise.High, 0) {
			told = append(told, o.Workload)
		}
	}
	if n == 0 {
		return
	}
	which := "on none"
	if len(told) > 0 {
		which = "on " + strings.Join(told, ", ")
	}
	p("\nThe noise, by its quartiles, is up to %.1f %%. The quartiles of tier 0+1 lie above those of the noise %s, of "+
		"%d workloads.", widest*100, which, n)
}

// bystander writes what a process pays that is no target.
func (b *bench) bystander(p func(format string, a ...any)) {
	o := b.NonTarget
	base := o.OpsPerS[nothing].Median
	p("\n## A process that is no target\n")
	p("Two threads that send a byte through pipes to each other: two context switches a round, %.0f switches a "+
		"CPU-second.\n", o.Switches)
	if o.BPF.Switch.N > 0 {
		p("- In BPF programs, by the kernel's statistics: %.0f ns a context switch (%.0f–%.0f), for leaving and "+
			"entering thread and the wake-up.",
			o.BPF.Switch.Median, o.BPF.Switch.Low, o.BPF.Switch.High)
		runs := 1 + o.BPF.RunsPerS["sched_waking"]/o.BPF.RunsPerS["sched_switch"]
		p("  Of that, %.0f ns are the statistics' own, which is what they say of an empty program, times %.2f runs: "+
			"**%.0f ns** remain.", o.BPF.Floor.Median*runs, runs,
			o.BPF.Switch.Median-o.BPF.Floor.Median*runs)
	}
	for _, name := range []string{tier01, runqlat} {
		if c, ok := o.Cost[name]; ok {
			p("- By paired runs, with %s attached: %s of its %.0f operations a CPU-second, %.0f ns a context switch.",
				name, percent(c), base,
				c.Median/(1-c.Median)*1e9/o.Switches)
		}
	}
}

func (b *bench) row(o *outcome) string {
	t := fmt.Sprintf("| %s | %.0f |", o.Workload, o.OpsPerS[nothing].Median)
	for _, name := range shown[1:] {
		cell := percent(o.Cost[name])
		if strings.HasPrefix(o.Absent[name], noWindow) {
			cell = noWindow
		}
		t += " " + cell + " |"
	}
	return t
}

func percent(s report.Spread) string {
	if s.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f %% (%.1f to %.1f)", s.Median*100, s.Low*100, s.High*100)
}
