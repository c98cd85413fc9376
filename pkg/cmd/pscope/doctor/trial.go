//go:build linux

package doctor

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// How long the trial may take, and from when on it says what it is doing.
const (
	trialMost     = 15 * time.Second // unless --patience says otherwise
	trialQuiet    = 2 * time.Second
	endingMost    = 5 * time.Second       // taking the probes out again
	migrationMost = 5 * time.Second       // of that, waiting for a window of tier 2
	settleMost    = 3 * time.Second       // likewise, for what is on its way
	spinEach      = 40 * time.Millisecond // on each CPU, for the samples
	spinAll       = 4 * time.Second       // on all CPUs together
	refusedFor    = 2 * time.Second       // a child that is refused as long is not looked at any more
	workEvery     = 500 * time.Millisecond
	pollEvery     = 20 * time.Millisecond
)

// tryAgain is what to do about a machine that is too busy.
const tryAgain = "try again when the machine has less to do, or with more --patience"

// Trial is what an agent on this host did with a child process of doctor's, and what was seen of it.
type Trial struct {
	Mode  string           `json:"mode"`  // ebpf or snapshot; empty: not even a collector could be made
	Lacks []collector.Lack `json:"lacks"` // what the agent lacks, in its own words
	// of the child: ebpf, snapshot or refused; empty: it was not found in time
	Source  pstate.Source `json:"source,omitempty"`
	Reason  string        `json:"reason,omitempty"` // likewise
	Account Account       `json:"child"`            // what the child says of its work

	Programs  []string      `json:"programs,omitempty"`
	Loading   time.Duration `json:"loading_ns"` // loading and attaching what needs no process
	Changes   uint64        `json:"changes"`    // state changes of Ps that the scheduler's tracepoints told of
	WakeUps   uint64        `json:"wake_ups"`
	Stops     uint64        `json:"stops"`
	StopsBy   []string      `json:"stops_by,omitempty"` // how the probes are attached
	CPU       time.Duration `json:"cpu_ns"`             // of the child's first turn of work, as observed
	Sampled   []int         `json:"sampled_cpus"`
	Unsampled []int         `json:"unsampled_cpus,omitempty"` // the child ran there, and no sample was seen
	// this process may not run there, or there was no time
	Untried   []int             `json:"untried_cpus,omitempty"`
	Windows   time.Duration     `json:"migration_windows_ns"` // in which goroutine migrations were counted
	NoWindows string            `json:"no_migration_windows,omitempty"`
	Lost      map[string]uint64 `json:"lost,omitempty"` // of the child, by reason
	// Failed is what kept the trial from being finished; what comes after it was not tried.
	Failed string `json:"failed,omitempty"`

	patience time.Duration
	info     collector.AgentInfo
	counted  time.Duration // the CPU time of the child's first turn of work, as the kernel counts it
	worked   bool          // the child has done its work while it was observed
	sampled  bool          // the CPUs were gone through
}

// tryOut does what an agent would do, with a child process as its only target. It leaves nothing behind.
func tryOut(ctx context.Context, patience time.Duration, progress io.Writer) *Trial {
	t := &Trial{patience: patience}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	say, quiet := slowly(progress)
	defer quiet()

	say("starting a child process")
	c, err := startChild(ctx)
	if err != nil {
		t.Failed = "the child process could not be started: " + err.Error()
		return t
	}
	defer c.end()
	say("loading the BPF programs")
	begun := time.Now()
	col, err := newCollector(ctx, patience, c.pid())
	if err != nil {
		t.Failed = err.Error()
		return t
	}
	t.Loading = time.Since(begun)
	t.readInfo(col)
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- col.Run(running) }()
	defer func() {
		t.readInfo(col)
		say("taking the probes out again")
		stop()
		select {
		case err := <-ended:
			if err != nil && t.Failed == "" {
				t.Failed = err.Error()
			}
		case <-time.After(endingMost): // the kernel does the rest when this process ends
		}
	}()
	if t.Programs, err = collector.Programs(); err != nil {
		t.Failed = err.Error()
		return t
	}
	t.watch(ctx, col, c, say)
	return t
}

// readInfo takes what the agent says of itself. That it can't count migrations without eBPF is no lack of an agent that
// is not asked to.
func (t *Trial) readInfo(col collector.Collector) {
	t.info = col.Agent()
	t.info.Lacks = slices.DeleteFunc(t.info.Lacks, func(l collector.Lack) bool { return l.What == lack.Migrations })
	t.Mode, t.Lacks = t.info.Mode, t.info.Lacks
}

// newCollector makes the agent's collector for one process. It is given up on when the context ends: the kernel may
// take its time.
func newCollector(ctx context.Context, patience time.Duration, pid int32) (collector.Collector, error) {
	type made struct {
		c   collector.Collector
		err error
	}
	done := make(chan made, 1)
	go func() {
		// The child is quick: what it does is to be seen, not what limits an agent sets to it.
		o := collector.Options{Only: pid, CostBudget: -1, IntervalBudget: 100_000, Migrations: true}
		c, err := collector.New(o)
		if err == nil && c.Agent().Mode != string(collector.ModeEBPF) {
			o.Migrations = false // which takes more memory; an agent is not asked for it unless by its flag
			c, err = collector.New(o)
		}
		done <- made{c, err}
	}()
	select {
	case m := <-done:
		return m.c, m.err
	case <-ctx.Done():
		return nil, fmt.Errorf("the BPF programs were not loaded within %v; %s", patience, tryAgain)
	}
}

// watch lets the child work and looks what of it is seen.
func (t *Trial) watch(ctx context.Context, col collector.Collector, c *child, say func(string)) {
	say("waiting for the child process to be found")
	pid := c.pid()
	var refused time.Time
	poll(ctx, t.patience, func() bool {
		for _, target := range col.Targets() {
			if target.PID != pid {
				continue
			}
			t.Source, t.Reason = target.Source, target.Reason
			if t.Source == pstate.SourceRefused && refused.IsZero() {
				refused = time.Now()
			}
			if strings.Contains(t.Reason, lack.StopsComing) {
				return false
			}
			// What refuses a process that has only just started may pass.
			return t.Source != pstate.SourceRefused || time.Since(refused) > refusedFor
		}
		return false
	})
	if t.Source == "" || t.Source == pstate.SourceRefused {
		t.Failed = fmt.Sprintf("the child process had not been found and probed within %v; %s", t.patience, tryAgain)
		if t.Source == pstate.SourceRefused {
			t.Failed = "the child process is refused: " + t.Reason
		}
		return
	}
	// Whatever it did to start is over.
	poll(ctx, 200*time.Millisecond, func() bool { return false })
	say("letting the child process work")
	before := t.look(col, pid)
	if err := t.work(ctx, c); err != nil {
		t.Failed = err.Error()
		return
	}
	t.worked = true
	say("waiting for what the probes tell")
	t.settle(ctx, col, pid)
	t.CPU = t.look(col, pid) - before
	t.counted = t.Account.CPU
	if t.Source != pstate.SourceEBPF {
		return
	}
	say("looking for samples of each CPU")
	t.goThroughCPUs(ctx, col, c)
	say("waiting for a window in which goroutine migrations are counted")
	t.awaitMigrations(ctx, col, c)
	t.settle(ctx, col, pid)
}

// work lets the child work, and adds up what it says of that.
func (t *Trial) work(ctx context.Context, c *child) error {
	a, err := c.ask(ctx, "work")
	t.Account.Stops += a.Stops
	t.Account.CPU += a.CPU
	t.Account.Switches += a.Switches
	return err
}

// settle waits until everything that the child has said has been seen, for a while.
func (t *Trial) settle(ctx context.Context, col collector.Collector, pid int32) {
	poll(ctx, settleMost, func() bool {
		t.look(col, pid)
		seen := t.Stops >= t.Account.Stops || len(t.StopsBy) == 0
		return t.Source != pstate.SourceEBPF || t.Changes > 0 && t.WakeUps > 0 && seen
	})
}

// look reads what has been seen of the child so far, and gives the time for which its Ps were on a CPU.
func (t *Trial) look(col collector.Collector, pid int32) (onCPU time.Duration) {
	for _, target := range col.Targets() {
		if target.PID == pid {
			t.Source, t.Reason = target.Source, target.Reason
		}
	}
	for _, v := range col.Views(time.Now()) {
		if v.PID != pid {
			continue
		}
		t.Stops = 0
		for _, h := range v.StopHist {
			t.Stops += h.Count
		}
		for i := range v.Ps {
			for _, s := range []pstate.State{pstate.Running, pstate.GC, pstate.Syscall} {
				onCPU += v.Ps[i].Time[s][pstate.OnCPU]
			}
		}
		t.Windows, t.Lost = v.Migrations.Watched, v.Lost
	}
	if e, ok := collector.EvidenceOf(col, pid); ok {
		t.Changes, t.WakeUps, t.StopsBy = e.Changes, e.WakeUps, e.StopProbes
	}
	return onCPU
}

// goThroughCPUs lets the child run on one CPU after the other and looks whether samples of it come.
func (t *Trial) goThroughCPUs(ctx context.Context, col collector.Collector, c *child) {
	if t.lacks(lack.Samples) != nil {
		return
	}
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		t.Failed = "the CPUs of this process are not known: " + err.Error()
		return
	}
	until := time.Now().Add(spinAll)
	t.sampled = true
	for _, cpu := range onlineCPUs() {
		if !mine.IsSet(cpu) || time.Now().After(until) || ctx.Err() != nil {
			t.Untried = append(t.Untried, cpu)
			continue
		}
		before := sampledTime(col, c.pid())
		seen := false
		// A sample comes every 10 ms of a CPU's time; on a starved machine the first turn may be too short.
		for try := 0; try < 3 && !seen; try++ {
			if _, err := c.ask(ctx, "spin %d %d", cpu, (spinEach << try).Milliseconds()); err != nil {
				break
			}
			seen = sampledTime(col, c.pid()) > before
		}
		if seen {
			t.Sampled = append(t.Sampled, cpu)
		} else {
			t.Unsampled = append(t.Unsampled, cpu)
		}
	}
}

func sampledTime(col collector.Collector, pid int32) time.Duration {
	e, _ := collector.EvidenceOf(col, pid)
	return e.Sampled
}

// awaitMigrations lets the child go on until tier 2 has had a window.
func (t *Trial) awaitMigrations(ctx context.Context, col collector.Collector, c *child) {
	until := time.Now().Add(migrationMost)
	for t.Windows == 0 && time.Now().Before(until) && ctx.Err() == nil {
		if err := t.work(ctx, c); err != nil {
			t.NoWindows = err.Error()
			return
		}
		poll(ctx, workEvery, func() bool { t.look(col, c.pid()); return t.Windows > 0 })
		if _, why, ok := strings.Cut(t.Reason, lack.NoMigrations("")); ok {
			t.NoWindows = why
			return
		}
	}
	if t.Windows == 0 {
		t.NoWindows = "no window was opened in time"
	}
}

// lacks gives the agent's lack of something; nil: it has it.
func (t *Trial) lacks(what string) *collector.Lack {
	for i := range t.Lacks {
		if t.Lacks[i].What == what {
			return &t.Lacks[i]
		}
	}
	return nil
}

// poll waits until ok, for a while at most.
func poll(ctx context.Context, most time.Duration, ok func() bool) bool {
	timeout := time.NewTimer(most)
	defer timeout.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return false
		case <-timeout.C:
			return false
		case <-tick.C:
		}
	}
	return true
}

// slowly gives what shows each step on w once the whole has taken longer than anybody likes to wait without a word, and
// what ends that.
func slowly(w io.Writer) (say func(string), quiet func()) {
	steps, done := make(chan string), make(chan struct{})
	go func() {
		defer close(done)
		var now string
		loud := false
		late := time.NewTimer(trialQuiet)
		defer late.Stop()
		show := func() {
			if now != "" {
				fmt.Fprintf(w, "pscope doctor: %s …\n", now)
			}
		}
		for {
			select {
			case s, ok := <-steps:
				if !ok {
					return
				}
				if now = s; loud {
					show()
				}
			case <-late.C:
				loud = true
				show()
			}
		}
	}()
	return func(s string) { steps <- s }, func() { close(steps); <-done }
}

// onlineCPUs lists the CPUs that the kernel uses.
func onlineCPUs() []int {
	return parseCPUs(readSmall("/sys/devices/system/cpu/online"))
}

// parseCPUs reads a list like 0-3,8 (Documentation/admin-guide/cputopology.rst of Linux).
func parseCPUs(list string) (cpus []int) {
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		var from, to int
		switch n, _ := fmt.Sscanf(part, "%d-%d", &from, &to); n {
		case 1:
			to = from
		case 2:
		default:
			continue
		}
		for cpu := from; cpu <= to && len(cpus) < mostCPUs; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

const mostCPUs = 8192
