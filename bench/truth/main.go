// Command truth runs workloads that trace themselves with runtime/trace, observes them from outside at the same time, and prints both accounts of
// every P side by side, with those of the kernel (/proc) and of the runtime's own counters.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const allLoads = "cpu,channel,echo,http,sleepers,writes,reads,gc,allocwait,procs,cgo,locked,oversubscribed,mixed"

func main() {
	loads := flag.String("workloads", allLoads, "comma-separated")
	procs := flag.String("procs", "1,2,4,16,64", "GOMAXPROCS values, comma-separated")
	run := flag.Duration("run", 3*time.Second, "length of each trace")
	warm := flag.Duration("warm", 3*time.Second, "observe this long before the trace begins")
	out := flag.String("out", "", "write FILE.md and FILE.json as well")
	verbose := flag.Bool("v", false, "print every P")
	edges := flag.Bool("edges", false, "print how far the takes and gives of Ps lie from the trace's")
	own := flag.Bool("runtime", false, "compare with a log that the runtime itself keeps, traced and untraced: what of a difference is the trace's")
	windows := flag.Int("windows", 0, "observe one second in as many and estimate the rest, as the governor has it where observing costs too much; 0: all the time")
	flag.Parse()
	s := &setup{run: *run, warm: *warm, edges: *edges, runtime: *own, windows: *windows}
	if err := s.compareAll(strings.Split(*loads, ","), strings.Split(*procs, ","), *out, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "truth:", err)
		os.Exit(1)
	}
}

func (s *setup) compareAll(loads, procs []string, out string, verbose bool) error {
	dir, err := os.MkdirTemp("", "pscope-truth")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if s.bin, err = buildWorkload(dir, s.runtime); err != nil {
		return err
	}
	s.dir = dir
	var results []*result
	header(os.Stdout)
	for _, l := range loads {
		for _, p := range procs {
			r, err := s.compare(l, p)
			if err != nil {
				return fmt.Errorf("%s with %s Ps: %w", l, p, err)
			}
			r.print(os.Stdout, verbose)
			results = append(results, r)
		}
	}
	summary(os.Stdout, results)
	if out == "" {
		return nil
	}
	return write(out, results)
}

// buildWorkload puts the program to be observed into a directory, and says where it is. Its name is its own, so that another one that runs beside is not taken for it.
func buildWorkload(dir string, runtimeEdges bool) (string, error) {
	bin := filepath.Join(dir, fmt.Sprintf("truth-%d", os.Getpid()))
	args := []string{"build", "-o", bin}
	if runtimeEdges {
		overlay, err := overlayRuntime(dir)
		if err != nil {
			return "", err
		}
		args = append(args, overlay...)
	}
	build := exec.Command("go", append(args, "github.com/p-scope/p-scope/bench/truth/workload")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the workload: %w\n%s", err, out)
	}
	return bin, nil
}

func header(w io.Writer) {
	fmt.Fprintln(w, "| workload | Ps | busy by trace | by P-Scope | mean error | worst P | any state | sum | edges seen | stops | missed | off | wrong reason | median | GC stops | counted | GC pause | on CPU | a burst | unexplained | waiting | both |")
	fmt.Fprintln(w, "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |")
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
	fmt.Fprintf(w, "| %s | %s | %.2f %% | %.2f %% | %.2f | %.2f | %.2f | %.3f %% | %.0f %% | %d | %d | %d | %d | %v | %d | %s | %s | %.2f %% | %v | %.2f %% | %.2f %% | %.2f %% |\n",
		r.Workload, r.Ps, r.Busy, r.BusySeen, r.Mean, r.Worst, r.WorstClass, r.SumError, 100*r.Moves,
		r.Stops, r.StopsMissed, r.StopsWrong, r.ReasonsWrong, r.StopMedian.Round(time.Microsecond), r.GCStops, counted, pause, r.OnCPUError, r.PerBurst.Round(100*time.Nanosecond), r.Unexplained, r.WaitError, r.TogetherError)
	if r.Runtime != nil {
		r.Runtime.print(w, "traced")
		r.RuntimeUntraced.print(w, "untraced")
	}
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
	fmt.Fprintf(w, "\n%d runs. Busy share: mean error %.2f points, worst P %.2f, every P within 1 point in %d runs; any state of any P: worst %.2f.\n",
		len(all), mean, worst, within, class)
	fmt.Fprintf(w, "Threads' time on a CPU: within 1 %% of schedstat, beyond what interrupts and the hypervisor took, in %d runs; on or waiting for one in %d.\n", threads, together)
	fmt.Fprintf(w, "%d stops: %d missed, %d off by more than 5 %% and 20 µs, %d with another reason. Of the GC's %d, in %d runs as many as the runtime counted.\n", stops, missed, off, wrong, gc, agree)
}

func write(base string, all []*result) error {
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		return err
	}
	f, err := os.Create(base + ".md")
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprint(f, "# P-Scope against runtime/trace, /proc and the runtime's counters\n\nErrors of shares are percentage points; see bench/README.md.\n\n")
	header(f)
	for _, r := range all {
		r.print(f, false)
	}
	summary(f, all)
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(base+".json", append(b, '\n'), 0o644)
}
