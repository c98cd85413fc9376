//go:build linux

// Command cost measures what it costs a Go program to be observed: operations per CPU-second with nothing attached, with P-Scope, with
// runtime/trace, with a uprobe in the scheduler, and with a run queue latency tool; the time in BPF programs; and what a process pays
// that is no target.
//
// Every round runs every variant once, in turn, on the same process, so that each ratio is of neighbours in time; the result is the
// median over the rounds. Run it as root on a machine that does nothing else.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/p-scope/p-scope/bench/internal/report"
)

func main() {
	loads := flag.String("workloads", "cpu,channel,echo,http,sleepers,writes,gc,mixed", "comma-separated")
	procs := flag.Int("procs", 2, "GOMAXPROCS of the workloads")
	rounds := flag.Int("rounds", 7, "how often each variant runs")
	window := flag.Duration("window", time.Second, "length of each run")
	only := flag.String("variants", "", "comma-separated; empty for all")
	out := flag.String("out", "", "directory for the results; empty: print only")
	name := flag.String("name", "cost", "name of the results' files, without .md and .json")
	flag.Parse()
	b := &bench{Machine: report.ThisMachine(), Procs: *procs, Rounds: *rounds, Window: window.String(), window: *window}
	text, err := b.run(strings.Split(*loads, ","), *only)
	fmt.Print(text)
	if err == nil && *out != "" {
		err = report.Write(*out, *name, text, b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cost:", err)
		os.Exit(1)
	}
}

// bench is the whole benchmark, and what cost.json holds.
type bench struct {
	Machine   report.Machine `json:"machine"`
	Procs     int            `json:"gomaxprocs"`
	Rounds    int            `json:"rounds"`
	Window    string         `json:"window"`
	Workloads []*outcome     `json:"workloads"`
	// NonTarget is what a process pays that is not observed.
	NonTarget *outcome          `json:"non_target"`
	Absent    map[string]string `json:"absent,omitempty"` // variants that could not run, and why

	window time.Duration
}

// outcome is what was measured of one workload.
type outcome struct {
	Workload string                   `json:"workload"`
	OpsPerS  map[string]report.Spread `json:"ops_per_cpu_second"` // by variant
	Cost     map[string]report.Spread `json:"cost"`               // by variant: 1 - ratio to nothing attached
	BPF      bpfShare                 `json:"bpf"`
	Switches float64                  `json:"switches_per_cpu_second"`
}

// bpfShare is the time in BPF programs, by the kernel's run-time statistics, with tier 0+1 attached.
type bpfShare struct {
	Share    report.Spread            `json:"share_of_target_cpu"` // of the target's CPU time, programs of the whole host
	Own      report.Spread            `json:"own_share"`           // the same by pscope_probe_seconds_total: this target's alone
	NsPerRun map[string]report.Spread `json:"ns_per_run"`          // by program
	RunsPerS map[string]float64       `json:"runs_per_cpu_second"`
	Switch   report.Spread            `json:"ns_per_switch"` // sched_switch and sched_waking together, a context switch
	Floor    report.Spread            `json:"ns_floor"`      // of an empty program: what the statistics cost themselves
}

func (b *bench) run(loads []string, only string) (string, error) {
	dir, err := os.MkdirTemp("", "pscope-cost")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, targetName)
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/p-scope/p-scope/bench/truth/workload").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the workload: %w\n%s", err, out)
	}
	bystander := filepath.Join(dir, "bystander")
	if err := os.Link(bin, bystander); err != nil {
		return "", err
	}
	all := variants(only)
	b.Absent = map[string]string{}
	for _, l := range loads {
		o, err := b.measure(bin, l, all)
		if err != nil {
			return "", fmt.Errorf("%s: %w", l, err)
		}
		b.Workloads = append(b.Workloads, o)
		fmt.Fprintln(os.Stderr, b.row(o))
	}
	var host []*variant
	for _, v := range all {
		if v.bystanders {
			host = append(host, v)
		}
	}
	if b.NonTarget, err = b.measure(bystander, "pipes", host); err != nil {
		return "", fmt.Errorf("a process that is no target: %w", err)
	}
	return b.markdown(), nil
}

// measure runs one workload under every variant, round by round.
func (b *bench) measure(bin, load string, all []*variant) (*outcome, error) {
	w, err := startWorkload(bin, load, b.Procs)
	if err != nil {
		return nil, err
	}
	defer w.close()
	ops, cost := map[string][]float64{}, map[string][]float64{}
	var s sums
	var switches []float64
	for round := range b.Rounds {
		rates := map[string]float64{}
		for i := range all {
			v := all[(i+round)%len(all)]
			if _, absent := b.Absent[v.name]; absent {
				continue
			}
			detach, err := v.attach(w)
			if err != nil {
				b.Absent[v.name] = err.Error()
				fmt.Fprintf(os.Stderr, "%s is left out: %v\n", v.name, err)
				continue
			}
			got, err := w.window(b.window * time.Duration(max(1, v.times)))
			if err == nil && v.name == tier01 {
				err = s.take(w, v, b.window)
			}
			detach()
			if err != nil {
				return nil, err
			}
			rates[v.name] = got.rate()
			ops[v.name] = append(ops[v.name], got.rate())
			if v.name == nothing {
				switches = append(switches, float64(got.Switches)/got.CPU.Seconds())
			}
		}
		for name, r := range rates {
			if name != nothing && rates[nothing] > 0 {
				cost[name] = append(cost[name], 1-r/rates[nothing])
			}
		}
	}
	o := &outcome{Workload: load, OpsPerS: spreads(ops), Cost: spreads(cost), BPF: s.result(), Switches: report.SpreadOf(switches).Median}
	return o, nil
}

func spreads(m map[string][]float64) map[string]report.Spread {
	out := map[string]report.Spread{}
	for k, v := range m {
		out[k] = report.SpreadOf(v)
	}
	return out
}

// targetName is the name by which the observer knows the workload.
const targetName = "workload"

// workload is a running workload that takes orders.
type workload struct {
	cmd *exec.Cmd
	bin string
	in  io.WriteCloser
	out *bufio.Scanner
}

// window is one answer of the workload; see bench/truth/workload.
type window struct {
	Ops       uint64
	CPU, Wall time.Duration
	Switches  uint64
}

func (w window) rate() float64 { return float64(w.Ops) / w.CPU.Seconds() }

func startWorkload(bin, load string, procs int) (*workload, error) {
	w := &workload{cmd: exec.Command(bin, "-serve", "-procs", fmt.Sprint(procs), load), bin: bin}
	w.cmd.Stderr = os.Stderr
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewScanner(out)
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	var ready string
	return w, w.answer(&ready)
}

func (w *workload) answer(to any) error {
	if !w.out.Scan() {
		return fmt.Errorf("the workload ended: %v", w.out.Err())
	}
	return json.Unmarshal(w.out.Bytes(), to)
}

func (w *workload) order(line string, to any) error {
	if _, err := io.WriteString(w.in, line+"\n"); err != nil {
		return err
	}
	return w.answer(to)
}

func (w *workload) window(d time.Duration) (got window, err error) {
	return got, w.order("window "+d.String(), &got)
}

func (w *workload) pid() int { return w.cmd.Process.Pid }

func (w *workload) close() {
	_ = w.in.Close() // it ends when there are no more orders
	_ = w.cmd.Wait()
}
