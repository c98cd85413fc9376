// Command truth runs workloads that trace themselves with runtime/trace, observes them from outside at the same time,
// and prints both accounts of every P side by side, with those of the kernel (/proc) and of the runtime's own counters.
package main

import (
	"encoding/json"
	"errors"
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

const allLoads = "cpu,channel,echo,echopause,http,sleepers,writes,reads,gc,allocwait,procs,cgo,locked,oversubscribed,mixed"

func main() {
	loads := flag.String("workloads", allLoads, "comma-separated")
	procs := flag.String("procs", "1,2,4,16,64", "GOMAXPROCS values, comma-separated")
	run := flag.Duration("run", 3*time.Second, "length of each trace")
	warm := flag.Duration("warm", 3*time.Second, "observe this long before the trace begins")
	out := flag.String("out", "", "write FILE.md and FILE.json as well; -: FILE.json to the standard output, on a "+
		"line of its own")
	merge := flag.Bool("merge", false, "keep what FILE.json has of other machines and kernels, and of this one of "+
		"other workloads")
	add := flag.String("add", "", "measure nothing; put the sets of this JSON `file` from another machine into those "+
		"of -out")
	verbose := flag.Bool("v", false, "print every P")
	edges := flag.Bool("edges", false, "print how far the takes and gives of Ps lie from the witnesses', and how the "+
		"time came about that they disagree about")
	own := flag.Bool("runtime", true, "compare with a log that the runtime itself keeps as well, traced and untraced; "+
		"needs the sources of Go 1.26")
	windows := flag.Int("windows", 0, "observe one second in as many and estimate the rest, as the governor has it "+
		"where observing costs too much; 0: all the time")
	prebuilt := flag.String("bin", "", "the workload, built before by -build, for a machine without Go")
	tool := flag.String("tracetool", "", "go tool trace as a program of its own (go build cmd/trace), for a machine "+
		"without Go")
	build := flag.String("build", "", "measure nothing; build the workload, without C, into this `file`")
	flag.Parse()
	s := &setup{run: *run, warm: *warm, edges: *edges, runtime: *own, windows: *windows, bin: *prebuilt, tool: *tool}
	var err error
	switch {
	case *build != "":
		err = buildWorkload(*build, *own, false)
	case *add != "":
		err = addSets(*out, *add)
	default:
		err = s.compareAll(strings.Split(*loads, ","), strings.Split(*procs, ","), *out, *merge, *verbose)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "truth:", err)
		os.Exit(1)
	}
}

// addSets puts the sets of one file into those of another.
func addSets(base, from string) error {
	if base == "" || base == "-" {
		return errors.New("-add needs -out FILE: the results to put the others into")
	}
	all, err := readResults(base + ".json")
	if err != nil {
		return err
	}
	more, err := readResults(from)
	if err != nil {
		return err
	}
	if len(more.Sets) == 0 {
		return fmt.Errorf("%s holds no results", from)
	}
	for _, s := range more.Sets {
		all.add(s)
	}
	return all.write(base)
}

func (s *setup) compareAll(loads, procs []string, out string, merge, verbose bool) error {
	all := &results{}
	var err error
	if merge {
		if all, err = readResults(out + ".json"); err != nil {
			return err
		}
	}
	if s.dir, err = os.MkdirTemp("", "pscope-truth"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if s.bin == "" {
		// Its name is its own, so that another one that runs beside is not taken for it.
		s.bin = filepath.Join(s.dir, fmt.Sprintf("truth-%d", os.Getpid()))
		if err := buildWorkload(s.bin, s.runtime, true); err != nil {
			return err
		}
	}
	besides, err := report.NewBesides()
	if err != nil {
		return err
	}
	n := &set{Machine: report.ThisMachine(), Run: s.run.String(), Warm: s.warm.String(), Windows: s.windows}
	fmt.Println(n.Machine)
	header(os.Stdout)
	for _, l := range loads {
		for _, p := range procs {
			r, err := s.compare(l, p)
			if err != nil {
				return fmt.Errorf("%s with %s Ps: %w", l, p, err)
			}
			r.print(os.Stdout, verbose)
			n.Results = append(n.Results, r)
		}
	}
	summary(os.Stdout, n.Results)
	if n.Besides, err = besides.Share(); err != nil {
		return err
	}
	fmt.Printf("Other processes took %.0f %% of the CPUs meanwhile.\n", 100*n.Besides)
	all.add(n)
	switch out {
	case "":
		return nil
	case "-":
		return json.NewEncoder(os.Stdout).Encode(all)
	}
	return all.write(out)
}

// buildWorkload builds the program to be observed; with C unless it has to run on a machine without libc.
func buildWorkload(bin string, runtimeEdges, c bool) error {
	dir, err := os.MkdirTemp("", "pscope-truth-runtime")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	args := []string{"build", "-o", bin}
	command, env := "go", append(os.Environ(), map[bool]string{true: "CGO_ENABLED=1", false: "CGO_ENABLED=0"}[c])
	if runtimeEdges {
		goroot, overlay, err := overlayRuntime(dir)
		if err != nil {
			return err
		}
		args = append(args, overlay...)
		command, env = filepath.Join(goroot, "bin", "go"), append(env, "GOROOT="+goroot, "GOTOOLCHAIN=local")
	}
	build := exec.Command(command, append(args, "github.com/p-scope/p-scope/bench/truth/workload")...)
	build.Env = env
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the workload: %w\n%s", err, out)
	}
	return nil
}

func header(w io.Writer) {
	fmt.Fprintln(w, "| workload | Ps | busy by trace | by P-Scope | mean error | worst P | trace, by the log | "+
		"P-Scope, by the log | untraced | any state | sum | edges seen | stops | missed | off | wrong reason | median "+
		"| GC stops | counted | GC pause | on CPU | a burst | unexplained | waiting | both |")
	fmt.Fprintln(w, "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: "+
		"| --: | --: | --: | --: | --: | --: | --: | --: | --: |")
}

func (r *result) print(w io.Writer, verbose bool) {
	pause := "–"
	if r.PauseError >= 0 {
		pause = fmt.Sprintf("%.1f %% (%.1f %%)", r.PauseError, r.PauseErrorTraced)
	}
	counted := fmt.Sprint(r.GCStopsCounted[0])
	if r.GCStopsCounted[1] != r.GCStopsCounted[0] {
		counted += fmt.Sprintf(" to %d", r.GCStopsCounted[1])
	}
	fmt.Fprintf(w, "| %s | %s | %.2f %% | %.2f %% | %.2f | %.2f | %s | %.2f | %.3f %% | %.0f %% | %d | %d | %d | %d | "+
		"%v | %d | %s | %s | %.2f %% | %v | %.2f %% | %.2f %% | %.2f %% |\n",
		r.Workload, r.Ps, r.Busy, r.BusySeen, r.Mean, r.Worst, r.byLog(), r.WorstClass, r.SumError, 100*r.Moves,
		r.Stops, r.StopsMissed, r.StopsWrong, r.ReasonsWrong, r.StopMedian.Round(time.Microsecond), r.GCStops, counted,
		pause, r.OnCPUError, r.PerBurst.Round(100*time.Nanosecond), r.Unexplained, r.WaitError, r.TogetherError)
	if !verbose {
		return
	}
	for _, p := range r.PerP {
		fmt.Fprintf(w, "    P%-3d", p.P)
		for c, name := range classNames {
			fmt.Fprintf(w, "  %s %6.2f %6.2f", name, p.Trace[c], p.Seen[c])
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "    repairs", r.Reconciled, "losses", r.Lost)
}

// byLog says how far the trace and P-Scope are from the runtime's own log, on average over the Ps: the trace and
// P-Scope in the traced run, P-Scope in the untraced one.
func (r *result) byLog() string {
	if r.Runtime == nil {
		return "– | – | –"
	}
	u := r.RuntimeUntraced
	return fmt.Sprintf("%+.2f | %+.2f (%.2f) | %+.2f (%.2f)", r.Runtime.TraceOff, r.Runtime.BusySeen-r.Runtime.Busy,
		r.Runtime.Mean, u.BusySeen-u.Busy, u.Mean)
}

// summary says how many runs met which bar.
func summary(w io.Writer, all []*result) {
	var mean, worst, class float64
	threads, together, within, stops, missed, off, wrong, gc, agree := 0, 0, 0, 0, 0, 0, 0, 0, 0
	for _, r := range all {
		mean += r.Mean / float64(len(all))
		worst = max(worst, r.Worst)
		class = max(class, r.WorstClass)
		if r.Worst <= 1 {
			within++
		}
		if r.Unexplained >= 0 && r.Unexplained <= 1 {
			threads++
		}
		if r.TogetherError >= 0 && r.TogetherError <= 1 {
			together++
		}
		stops += r.Stops
		missed += r.StopsMissed
		off += r.StopsWrong
		wrong += r.ReasonsWrong
		gc += r.GCStops
		if r.countsAgree() {
			agree++
		}
	}
	fmt.Fprintf(w, "\n%d runs. Busy share: mean error %.2f points, worst P %.2f, every P within 1 point in %d runs; "+
		"any state of any P: worst %.2f.\n",
		len(all), mean, worst, within, class)
	logSummary(w, all)
	fmt.Fprintf(w, "Threads' time on a CPU: within 1 %% of schedstat, beyond what interrupts and the hypervisor took, "+
		"in %d runs; on or waiting for one in %d.\n", threads, together)
	fmt.Fprintf(w, "%d stops: %d missed, %d off by more than 5 %% and 20 µs, %d with another reason. Of the GC's %d, "+
		"in %d runs as many as the runtime counted.\n", stops, missed, off, wrong, gc, agree)
}

// logSummary says by how much the trace and P-Scope are off by the runtime's own log.
func logSummary(w io.Writer, all []*result) {
	var n, trace, traced, untraced, worst float64
	for _, r := range all {
		if r.Runtime == nil {
			continue
		}
		n++
		trace += r.Runtime.TraceMean
		traced += r.Runtime.Mean
		untraced += r.RuntimeUntraced.Mean
		worst = max(worst, r.Runtime.Worst, r.RuntimeUntraced.Worst)
	}
	if n > 0 {
		fmt.Fprintf(w, "By the runtime's own log: mean error of the trace %.2f points, of P-Scope %.2f traced and "+
			"%.2f untraced, its worst P %.2f.\n", trace/n, traced/n, untraced/n, worst)
	}
}
