//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// The names of the variants as results have them.
const (
	nothing = "nothing"
	again   = "nothing, again"
	tier0   = "tier 0"
	tier01  = "tier 0+1"
	tier012 = "tier 0+1+2"
	asIs    = "as installed"
	traced  = "runtime/trace"
	naive   = "uprobe on execute+0"
	runqlat = "runqlat"
)

// variant is one way of observing.
type variant struct {
	name string
	// attach begins the observation of a workload; detach ends it.
	attach func(w *workload) (detach func(), err error)
	// settle is how long the observation goes on before anything is measured: in its first seconds it learns, with ten
	// times the samples (learnFor in pkg/collector), and asks the target's memory for what the probes will tell it
	// later.
	settle time.Duration
	// once says that one round has to do.
	once bool
	// times is how many windows of the bench one run takes; 0: one.
	times int
	// bystanders says that processes pay which are not observed.
	bystanders bool
	// observer is the collector in use; nil with other tools.
	observer collector.Collector
	// foreign are the programs of other agents.
	foreign map[ebpf.ProgramID]program
}

// variants gives those that were asked for; nothing attached is always among them.
func variants(only string) []*variant {
	all := []*variant{
		{name: nothing, bystanders: true, attach: func(*workload) (func(), error) { return func() {}, nil }},
		{name: again, bystanders: true, attach: func(*workload) (func(), error) { return func() {}, nil }},
		{name: tier0, settle: settled},
		{name: tier01, settle: settled, bystanders: true},
		{name: asIs, settle: governed, once: true},
		{name: tier012, times: 10}, // several of its windows, and the time between them that pays for them
		{name: traced, attach: attachTrace},
		{name: naive, attach: attachNaive},
		{name: runqlat, bystanders: true, attach: attachRunqlat},
	}
	if only != "" {
		wanted := strings.Split(only, ",")
		all = slices.DeleteFunc(all, func(v *variant) bool {
			return v.name != nothing && v.name != again &&
				!slices.Contains(wanted, v.name)
		})
	}
	for _, v := range all {
		switch v.name {
		case tier0:
			v.attach = func(w *workload) (func(), error) {
				return v.observe(w, collector.Options{NoStops: true, CostBudget: -1})
			}
		case tier01:
			v.attach = func(w *workload) (func(), error) { return v.observe(w, collector.Options{CostBudget: -1}) }
		case asIs:
			v.attach = func(w *workload) (func(), error) { return v.observe(w, collector.Options{}) }
		case tier012:
			v.attach = func(w *workload) (func(), error) { return v.observe(w, collector.Options{Migrations: true}) }
		}
	}
	return all
}

const (
	settled      = 6 * time.Second
	governed     = 25 * time.Second // the governor has come to rest
	installedFor = 40 * time.Second // the governor may observe in windows: some of them, with the time between
	seenWithin   = 5 * time.Second
	windowWithin = 10 * time.Second
	noWindow     = "no window" // how the reason begins that tier 2 could not be measured
)

// observe runs a collector, and waits until it has the workload under observation. A workload of another name is no
// target: then it waits for the collector alone.
func (v *variant) observe(w *workload, o collector.Options) (func(), error) {
	o.Mode, o.Include = collector.ModeEBPF, regexp.MustCompile("^"+targetName+"$")
	foreign, err := programs(nil)
	if err != nil {
		return nil, err
	}
	c, err := collector.New(o)
	if err != nil {
		return nil, err
	}
	v.foreign = foreign
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	detach := func() {
		cancel()
		wg.Wait()
		v.observer = nil
	}
	v.observer = c
	if !strings.HasSuffix(w.bin, "/"+targetName) {
		return detach, nil
	}
	wait := seenWithin
	if o.Migrations {
		wait = windowWithin
	}
	found := false
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		t, ok := v.view(w)
		if found = found || ok; ok && (t.Migrations.Counted || !o.Migrations) {
			return detach, nil
		}
	}
	if found {
		detach()
		return nil, fmt.Errorf("%s within %v: the budget does not allow one", noWindow, wait)
	}
	detach()
	return nil, fmt.Errorf("the workload is not observed: %+v", c.Targets())
}

func (v *variant) view(w *workload) (pstate.TargetView, bool) {
	views := v.observer.Views(time.Now())
	i := slices.IndexFunc(views, func(t pstate.TargetView) bool { return t.PID == int32(w.pid()) })
	if i < 0 {
		return pstate.TargetView{}, false
	}
	return views[i], true
}

func attachTrace(w *workload) (func(), error) {
	var ok string
	if err := w.order("trace on", &ok); err != nil {
		return nil, err
	}
	return func() { _ = w.order("trace off", &ok) }, nil
}

// attachNaive does what a first idea would: a program that does nothing at all, on the first instruction of
// runtime.execute.
func attachNaive(w *workload) (func(), error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Kprobe, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return nil, err
	}
	exe, err := link.OpenExecutable(w.bin)
	if err != nil {
		return nil, err
	}
	l, err := exe.Uprobe("runtime.execute", prog, &link.UprobeOptions{PID: w.pid()})
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Close(); _ = prog.Close() }, nil
}

// runqlatScript is runqlat.bt of bpftrace without its header: the time from a wake-up, or from being preempted, to
// running, for every task of the host.
const runqlatScript = `BEGIN { printf("attached\n"); }
tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { @qtime[args->pid] = nsecs; }
tracepoint:sched:sched_switch {
	if (args->prev_state == 0) { @qtime[args->prev_pid] = nsecs; }
	$ns = @qtime[args->next_pid];
	if ($ns) { @usecs = hist((nsecs - $ns) / 1000); }
	delete(@qtime[args->next_pid]);
}`

func attachRunqlat(*workload) (func(), error) {
	path, err := exec.LookPath("bpftrace")
	if err != nil {
		return nil, errors.New("bpftrace is not installed: apt-get install bpftrace")
	}
	cmd := exec.Command(path, "-e", runqlatScript)
	cmd.Env = append(os.Environ(), "BPFTRACE_MAP_KEYS_MAX=10000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	detach := func() {
		_ = cmd.Process.Signal(os.Interrupt)
		// It loses a signal that comes at the wrong moment.
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
	}
	lines, said := bufio.NewScanner(out), ""
	for lines.Scan() {
		if strings.Contains(lines.Text(), "attached") {
			go func() {
				for lines.Scan() { // its map, at the end
				}
			}()
			time.Sleep(200 * time.Millisecond)
			return detach, nil
		}
		said = lines.Text()
	}
	detach()
	return nil, fmt.Errorf("bpftrace did not start: %s. It needs tracefs: mount -t debugfs debugfs /sys/kernel/debug",
		said)
}
