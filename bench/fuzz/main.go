//go:build linux

// Command fuzz runs the fuzz targets of this repository one after another, each for a given CPU time, at the lowest
// priority of the machine. It keeps what they learn, and writes how long each ran.
//
//	go run ./bench/fuzz -minutes 60                       every target for an hour of CPU time
//	go run ./bench/fuzz -minutes 1 -only goruntime,Query  those of a package or a name
//
// What was found stands in testdata/fuzz of the package, as `go test` leaves it, and fails every test run from then on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/bench/internal/report"
)

type options struct {
	minutes float64   // CPU time of each target
	until   time.Time // zero: as long as it takes
	only    []string
	cache   string // what is learnt, beside the repository
	out     string
	keep    bool
	idle    bool
}

func main() {
	var o options
	flag.Float64Var(&o.minutes, "minutes", 5, "CPU `minutes` for each target")
	only := flag.String("only", "", "only targets whose package or name has one of these in it, separated by commas")
	until := flag.String("until", "", "end at this `time` of day, like 12:25, whatever has run by then")
	flag.StringVar(&o.cache, "cache", filepath.Join(".cache", "fuzz"), "`directory` for everything that was learnt")
	flag.StringVar(&o.out, "out", "bench/results", "`directory` for fuzz.md and fuzz.json")
	flag.BoolVar(&o.keep, "keep", true, "add the few smallest inputs that reach new code to testdata/fuzz")
	flag.BoolVar(&o.idle, "idle", true, "run only when nothing else wants the CPU")
	flag.Parse()
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if *until != "" {
		at, err := time.ParseInLocation("15:04", *until, time.Local)
		if err != nil {
			fatal(fmt.Errorf("-until is %q; write it like 12:25", *until))
		}
		now := time.Now()
		o.until = time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), 0, 0, time.Local)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if !o.until.IsZero() {
		var cancel func()
		ctx, cancel = context.WithDeadline(ctx, o.until)
		defer cancel()
	}
	found, err := run(ctx, &o)
	if err != nil {
		fatal(err)
	}
	if found > 0 {
		fmt.Printf("%d targets found something; it stands in testdata/fuzz of their packages\n", found)
		os.Exit(1)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "fuzz:", err)
	os.Exit(2)
}

// idle makes this process, and all that it starts, run only when nothing else wants the CPU.
func idle() {
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}
	for _, tid := range threads() {
		_ = unix.SchedSetAttr(tid, attr, 0) // where it is not allowed, being nice must do
	}
}

func threads() (tids []int) {
	entries, _ := os.ReadDir("/proc/self/task")
	for _, e := range entries {
		var tid int
		if _, err := fmt.Sscan(e.Name(), &tid); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids
}

// run fuzzes every target and gives how many found something. Results are written after each, so that an end in between
// loses nothing.
func run(ctx context.Context, o *options) (found int, err error) {
	targets, err := findTargets(".", o.only)
	if err != nil {
		return 0, err
	}
	if len(targets) == 0 {
		return 0, errors.New("no fuzz target has that in its package or name")
	}
	runtime.LockOSThread()
	if o.idle {
		idle()
	}
	cache, err := filepath.Abs(o.cache)
	if err != nil {
		return 0, err
	}
	all, err := readResults(o.out)
	if err != nil {
		return 0, err
	}
	for pkg, names := range byPackage(targets) {
		if ctx.Err() != nil {
			break
		}
		binary, err := compile(ctx, cache, pkg)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return found, err
		}
		for _, name := range names {
			r := fuzz(ctx, binary, cache, pkg, name, time.Duration(o.minutes*float64(time.Minute)))
			if r == nil {
				break
			}
			if o.keep && r.Finding == "" {
				r.Kept = keep(context.WithoutCancel(ctx), cache, pkg, name)
			}
			fmt.Println(r)
			if r.Finding != "" {
				found++
			}
			all.add(r)
			if err := report.Write(o.out, "fuzz", all.markdown(), all); err != nil {
				return found, err
			}
		}
		_ = os.Remove(binary)
	}
	return found, nil
}

// compile builds a package's tests with the fuzzer's instruments.
func compile(ctx context.Context, cache, pkg string) (string, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	binary := filepath.Join(cache, strings.ReplaceAll(pkg, "/", "-")+".test")
	c := exec.CommandContext(ctx, "go", "test", "-c", "-p", "1", "-fuzz", "^Fuzz", "-o", binary, "./"+pkg)
	c.Env = append(os.Environ(), "GOMAXPROCS=1", "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the tests of %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}

// fuzz runs one target until it has used the CPU time, or has found something. nil: there was no time left to begin.
func fuzz(ctx context.Context, binary, cache, pkg, name string, most time.Duration) *result {
	if ctx.Err() != nil {
		return nil
	}
	var said strings.Builder
	c := exec.Command(binary, "-test.run", "^$", "-test.fuzz", "^"+name+"$", "-test.fuzzcachedir",
		filepath.Join(cache, pkg),
		"-test.parallel", "1", "-test.fuzzminimizetime", "10s")
	c.Dir, c.Env = pkg, append(os.Environ(), "GOMAXPROCS=1")
	c.Stdout, c.Stderr = &said, &said
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begun := time.Now()
	if err := c.Start(); err != nil {
		return &result{Package: pkg, Target: name, Finding: err.Error()}
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var err error
	done, asked, killed := ctx.Done(), time.Time{}, false
wait:
	for {
		select {
		case err = <-ended:
			break wait
		case <-done:
			done = nil
			_ = c.Process.Signal(os.Interrupt)
			asked = time.Now()
		case <-tick.C:
			switch {
			case asked.IsZero() && cpuOf(c.Process.Pid) >= most:
				_ = c.Process.Signal(os.Interrupt)
				asked = time.Now()
			case !asked.IsZero() && time.Since(asked) > 2*time.Minute:
				// It was told to end and gets no CPU time for that. What it found by then it has said.
				killed = true
				_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
			}
		}
	}
	r := &result{Package: pkg, Target: name, At: begun.UTC().Format(time.DateOnly),
		Minutes: time.Since(begun).Minutes()}
	r.CPUMinutes = (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Minutes()
	r.read(said.String())
	if err != nil && r.Finding == "" && !killed {
		r.Finding = lastLines(said.String(), 3)
	}
	return r
}

// byPackage groups targets, in the order in which packages come.
func byPackage(targets []target) func(yield func(string, []string) bool) {
	return func(yield func(string, []string) bool) {
		for len(targets) > 0 {
			pkg := targets[0].pkg
			n := slices.IndexFunc(targets, func(t target) bool { return t.pkg != pkg })
			if n < 0 {
				n = len(targets)
			}
			var names []string
			for _, t := range targets[:n] {
				names = append(names, t.name)
			}
			targets = targets[n:]
			if !yield(pkg, names) {
				return
			}
		}
	}
}
