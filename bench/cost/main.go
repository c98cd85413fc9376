//go:build linux

// Command cost measures what it costs a Go program to be observed: operations per CPU-second with nothing attached,
// with P-Scope, with runtime/trace, with a uprobe in the scheduler, and with a run queue latency tool; the time in BPF
// programs; and what a process pays that is no target.
//
// Every round runs every variant once, in turn, on the same process, so that each ratio is of neighbours in time; the
// result is the median over the rounds. Nothing attached runs twice a round: how far the two lie apart is the noise.
// Run it as root on a machine that does nothing else; where it can't be had for so long, in pieces (-workloads,
// -merge).
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/p-scope/p-scope/bench/internal/processes"
	"github.com/p-scope/p-scope/bench/internal/report"
)

func main() {
	loads := flag.String("workloads", strings.Join(allLoads, ","), "comma-separated; "+bystander+" is a process that "+
		"is no target")
	procs := flag.Int("procs", 2, "GOMAXPROCS of the workloads")
	rounds := flag.Int("rounds", 7, "how often each variant runs")
	window := flag.Duration("window", time.Second, "length of each run")
	only := flag.String("variants", "", "comma-separated; empty for all")
	out := flag.String("out", "", "directory for the results; empty: print only")
	merge := flag.Bool("merge", false, "keep what the results' files have of other workloads")
	name := flag.String("name", "cost", "name of the results' files, without .md and .json")
	longest := flag.Bool("longest", false, "measure how long single runs of the scheduler's programs take, and "+
		"nothing else")
	manyProcs := flag.String("longest-procs", "2,4,16,64", "comma-separated: GOMAXPROCS of the workloads with -longest")
	flag.Parse()
	if *longest {
		if err := runLongest(strings.Split(*loads, ","), *manyProcs, *window, *out); err != nil {
			fmt.Fprintln(os.Stderr, "cost:", err)
			os.Exit(1)
		}
		return
	}
	b := &bench{Machine: report.ThisMachine(), Procs: *procs, Rounds: *rounds, Window: window.String(), window: *window}
	err := b.run(strings.Split(*loads, ","), *only)
	if err == nil && *merge {
		err = b.merge(filepath.Join(*out, *name+".json"))
	}
	if err == nil {
		text := b.markdown()
		fmt.Print(text)
		if *out != "" {
			err = report.Write(*out, *name, text, b)
		}
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
	NonTarget *outcome `json:"non_target"`

	window time.Duration
}

// outcome is what was measured of one workload.
type outcome struct {
	Workload string                   `json:"workload"`
	OpsPerS  map[string]report.Spread `json:"ops_per_cpu_second"` // by variant
	// by variant: 1 - ratio to nothing attached; of that itself: between its two runs
	Cost   map[string]report.Spread `json:"cost"`
	Absent map[string]string        `json:"absent,omitempty"` // variants that could not run, and why
	BPF    bpfShare                 `json:"bpf"`
	// Installed is what remains of that under the usual budget, and LeftOut what the governor leaves out for it.
	Installed bpfShare `json:"bpf_as_installed"`
	LeftOut   string   `json:"left_out,omitempty"`
	Switches  float64  `json:"switches_per_cpu_second"`
}

// bpfShare is the time in BPF programs, by the kernel's run-time statistics, with tier 0+1 attached.
type bpfShare struct {
	// of the target's CPU time, programs of the whole host
	Share report.Spread `json:"share_of_target_cpu"`
	// the same less Floor a run: nobody pays the statistics who has not switched them on
	Net report.Spread `json:"net_share_of_target_cpu"`
	// the same by pscope_probe_seconds_total: this target's alone
	Own      report.Spread            `json:"own_share"`
	NsPerRun map[string]report.Spread `json:"ns_per_run"` // by program
	RunsPerS map[string]float64       `json:"runs_per_cpu_second"`
	Switch   report.Spread            `json:"ns_per_switch"` // sched_switch and sched_waking together, a context switch
	Floor    report.Spread            `json:"ns_floor"`      // of an empty program: what the statistics cost themselves
}

// allLoads are the workloads, in the order of the tables.
var allLoads = []string{"cpu", "channel", "echo", "http", "sleepers", "writes", "gc", "mixed", bystander}

// bystander is the process that is no target.
const bystander = "bystander"

// buildWorkload builds the workload below a directory that cleanup removes.
func buildWorkload() (bin string, cleanup func(), err error) {
	dir, err := os.MkdirTemp("", "pscope-cost")
	if err != nil {
		return "", nil, err
	}
	cleanup = func() { _ = os.RemoveAll(dir) }
	bin = filepath.Join(dir, targetName)
	if err := processes.Build(bin, processes.Workload); err != nil {
		cleanup()
		return "", nil, err
	}
	return bin, cleanup, nil
}

// runLongest is -longest.
func runLongest(loads []string, procs string, window time.Duration, out string) error {
	var ps []int
	for _, s := range strings.Split(procs, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("-longest-procs %s: want numbers of Ps, separated by commas", procs)
		}
		ps = append(ps, n)
	}
	bin, cleanup, err := buildWorkload()
	if err != nil {
		return err
	}
	defer cleanup()
	r, err := measureLongest(bin, loads, ps, window)
	if err != nil {
		return err
	}
	fmt.Print(r.markdown())
	if out == "" {
		return nil
	}
	return report.Write(out, "longest", r.markdown(), r)
}

func (b *bench) run(loads []string, only string) error {
	bin, cleanup, err := buildWorkload()
	if err != nil {
		return err
	}
	defer cleanup()
	dir := filepath.Dir(bin)
	other := filepath.Join(dir, bystander)
	if err := os.Link(bin, other); err != nil {
		return err
	}
	all := variants(only)
	for _, l := range loads {
		if l == bystander {
			host := slices.DeleteFunc(slices.Clone(all), func(v *variant) bool { return !v.bystanders })
			if b.NonTarget, err = b.measure(other, "pipes", host); err != nil {
				return fmt.Errorf("a process that is no target: %w", err)
			}
			continue
		}
		o, err := b.measure(bin, l, all)
		if err != nil {
			return fmt.Errorf("%s: %w", l, err)
		}
		b.Workloads = append(b.Workloads, o)
		fmt.Fprintln(os.Stderr, b.row(o))
	}
	return nil
}

// merge adds what an earlier run on this machine, with the same settings, measured of other workloads.
func (b *bench) merge(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var before bench
	if err := json.Unmarshal(text, &before); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	then, now := before.Machine, b.Machine
	then.Date = now.Date
	if then.Under == "" {
		then.Under = now.Under // results from before this was written down
	}
	if then != now || before.Procs != b.Procs || before.Rounds != b.Rounds || before.Window != b.Window {
		return fmt.Errorf("%s is of another machine or of runs of another length: leave out -merge, or measure with "+
			"-procs %d -rounds %d -window %s there",
			path, before.Procs, before.Rounds, before.Window)
	}
	for _, o := range before.Workloads {
		if !slices.ContainsFunc(b.Workloads, func(n *outcome) bool { return n.Workload == o.Workload }) {
			b.Workloads = append(b.Workloads, o)
		}
	}
	slices.SortStableFunc(b.Workloads, func(x, y *outcome) int {
		return cmp.Compare(slices.Index(allLoads, x.Workload), slices.Index(allLoads, y.Workload))
	})
	if b.NonTarget == nil {
		b.NonTarget = before.NonTarget
	}
	return nil
}

// measure runs one workload under every variant, round by round.
func (b *bench) measure(bin, load string, all []*variant) (*outcome, error) {
	w, err := startWorkload(bin, load, b.Procs)
	if err != nil {
		return nil, err
	}
	defer w.close()
	ops, cost := map[string][]float64{}, map[string][]float64{}
	absent := map[string]string{}
	var s, installed sums
	var level string
	var switches []float64
	for round := range b.Rounds {
		rates := map[string]float64{}
		for i := range all {
			v := all[(i+round)%len(all)]
			if absent[v.name] != "" || v.once && round > 0 {
				continue
			}
			detach, err := v.attach(w)
			if err != nil {
				absent[v.name] = err.Error()
				fmt.Fprintf(os.Stderr, "%s: %s is left out: %v\n", load, v.name, err)
				continue
			}
			time.Sleep(v.settle)
			got, err := w.window(b.window * time.Duration(max(1, v.times)))
			if err == nil && v.name == tier01 {
				err = s.take(w, v, b.window)
			}
			if err == nil && v.name == asIs {
				err = installed.take(w, v, max(b.window, installedFor))
				t, _ := v.view(w)
				_, level, _ = strings.Cut(t.Reason, "allows: ")
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
		base := (rates[nothing] + rates[again]) / 2
		for name, r := range rates {
			switch name {
			case nothing:
			case again:
				cost[name] = append(cost[name], 1-r/rates[nothing])
			default:
				cost[name] = append(cost[name], 1-r/base)
			}
		}
	}
	o := &outcome{Workload: load, OpsPerS: spreads(ops), Cost: spreads(cost), Absent: absent, BPF: s.result(),
		Installed: installed.result(), LeftOut: level, Switches: report.SpreadOf(switches).Median}
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
