package collector

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/govern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// These tests observe real processes through the real kernel. Where eBPF is not permitted they fail: a collector nobody
// has seen work is not tested. In snapshot mode they need no privileges beyond those over their own children.

// PSCOPE_TEST_TARGET names one that is built already, for a machine without a Go toolchain.
var targetBinary = sync.OnceValues(func() (string, error) {
	if built := os.Getenv("PSCOPE_TEST_TARGET"); built != "" {
		return built, nil
	}
	dir, err := os.MkdirTemp("", "pscope-target")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "pscope-test-target")
	out, err := exec.Command("go", "build", "-o", bin, "./testdata/target").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	if os.Getenv(asAgent) != "" {
		runAsAgent()
	}
	if mode := os.Getenv(asAnsweringAgent); mode != "" {
		runAnsweringAgent(mode)
	}
	if dir, contents, ok := strings.Cut(os.Getenv(asFileServer), "\n"); ok {
		runFileServer(dir, contents)
	}
	code := m.Run()
	if bin, err := targetBinary(); err == nil && bin != os.Getenv("PSCOPE_TEST_TARGET") {
		os.RemoveAll(filepath.Dir(bin))
	}
	if workloadDir != "" {
		os.RemoveAll(workloadDir)
	}
	os.Exit(code)
}

// needs skips a test that itself, not the collector, can't do without a capability.
func needs(t *testing.T, capability int, what string) {
	t.Helper()
	if lack.ReadHost("/").Held>>capability&1 == 0 {
		t.Skipf("%s takes capability %d, which the collector does not need and this user does not have", what,
			capability)
	}
}

// child is a running target.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  *bufio.Writer
	out *bufio.Scanner
}

// piped starts a child and gives its two ends, and the one that closes its input. Whoever calls it ends it.
func piped(t *testing.T, cmd *exec.Cmd) (*child, io.Closer) {
	t.Helper()
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &child{t, cmd, bufio.NewWriter(stdin), bufio.NewScanner(stdout)}, stdin
}

func start(t *testing.T, env ...string) *child {
	t.Helper()
	bin, err := targetBinary()
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, exec.Command(bin), env...)
}

// startCommand starts a target by a command that is set up otherwise.
func startCommand(t *testing.T, cmd *exec.Cmd, env ...string) *child {
	t.Helper()
	cmd.Env = append(os.Environ(), env...)
	c, stdin := piped(t, cmd)
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	c.out.Scan()
	return c
}

func (c *child) say(format string, args ...any) string {
	c.t.Helper()
	fmt.Fprintf(c.in, format+"\n", args...)
	if err := c.in.Flush(); err != nil {
		c.t.Fatal(err)
	}
	if !c.out.Scan() {
		c.t.Fatalf("the target has gone: %v", c.out.Err())
	}
	return c.out.Text()
}

// record keeps everything the collector says.
type record struct {
	mu        sync.Mutex
	intervals map[pstate.Key][]pstate.Interval
	stops     []pstate.Stop
	ended     map[pstate.Key]int64
}

func (r *record) Append(k pstate.Key, ivs []pstate.Interval) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.intervals[k] = append(r.intervals[k], ivs...)
}

func (r *record) AppendStop(_ pstate.Key, s pstate.Stop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stops = append(r.stops, s)
}

func (r *record) Lost(pstate.Key, string, uint64) {}

func (r *record) End(k pstate.Key, at int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended[k] = at
}

func collectIn(t *testing.T, mode Mode, change func(*Options)) (Collector, *record) {
	t.Helper()
	rec := &record{intervals: map[pstate.Key][]pstate.Interval{}, ended: map[pstate.Key]int64{}}
	o := Options{Mode: mode, Include: regexp.MustCompile("^pscope-test-target$"), Sink: rec}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c, rec
}

func view(c Collector, pid int) *pstate.TargetView {
	for _, v := range c.Views(time.Now()) {
		if v.PID == int32(pid) {
			return &v
		}
	}
	return nil
}

// waitFor polls until ok, for half a minute at most.
func waitFor(t *testing.T, what string, ok func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(begun)
}

func seen(t *testing.T, c Collector, pid int) time.Duration {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("process %d is not among %+v", pid, c.Targets())
		}
	}()
	return waitFor(t, "the target is observed", func() bool {
		v := view(c, pid)
		return v != nil && len(v.Ps) > 0 && !strings.Contains(v.Reason, lack.StopsComing)
	})
}

// shares is the share of wall time by P and state over a while.
func shares(t *testing.T, c Collector, pid int, while time.Duration) [][pstate.NumStates]float64 {
	t.Helper()
	a := view(c, pid)
	time.Sleep(while)
	b := view(c, pid)
	if a == nil || b == nil {
		t.Fatal("the target is not observed")
	}
	out := make([][pstate.NumStates]float64, len(a.Ps))
	for i := range a.Ps {
		var all time.Duration
		for s := range pstate.NumStates {
			d := b.Ps[i].StateTime(pstate.State(s)) - a.Ps[i].StateTime(pstate.State(s))
			if d < 0 {
				t.Errorf("P%d: the total of %v fell by %v", i, pstate.State(s), -d)
			}
			all += d
			out[i][s] = float64(d) / float64(b.At-a.At)
		}
		if wall := time.Duration(b.At - a.At); math.Abs(float64(all-wall)) > 0.001*float64(wall) {
			t.Errorf("P%d: the seconds of all states grew by %v in %v", i, all, wall)
		}
	}
	return out
}

func inBothModes(t *testing.T, f func(t *testing.T, mode Mode)) {
	for _, m := range []Mode{ModeEBPF, ModeSnapshot} {
		t.Run(string(m), func(t *testing.T) { f(t, m) })
	}
}

func TestBusyAndIdlePs(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode Mode) {
		c, _ := collectIn(t, mode, nil)
		p := start(t, "GOMAXPROCS=3")
		seen(t, c, p.cmd.Process.Pid)
		time.Sleep(300 * time.Millisecond)
		for i, s := range shares(t, c, p.cmd.Process.Pid, 500*time.Millisecond) {
			if s[pstate.Idle] < 0.95 {
				t.Errorf("nothing to do, but P%d is idle for %.0f %% only: %v", i, s[pstate.Idle]*100, s)
			}
		}
		p.say("busy 1")
		time.Sleep(300 * time.Millisecond)
		var busy float64
		all := shares(t, c, p.cmd.Process.Pid, time.Second)
		for _, s := range all {
			busy += s[pstate.Running] + s[pstate.Syscall] + s[pstate.GC]
		}
		// On a host that is busy itself, a second M that looks for work waits for a CPU with its P in hand: above 1 is
		// no error.
		if busy < 0.97 || busy > 2 {
			t.Errorf("one goroutine spins: %.3f Ps are busy: %.3f", busy, all)
		}
	})
}

// threadsOnCPU is the kernel's account of how long all threads of a process have been on a CPU.
func threadsOnCPU(pid int) (d time.Duration) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, f := range files {
		var ns int64
		b, _ := os.ReadFile(f)
		fmt.Sscan(string(b), &ns)
		d += time.Duration(ns)
	}
	return d
}

// interruptsAndSteal is the time of all CPUs in interrupts, and that which the hypervisor took, since the boot
// (proc_stat(5)).
func interruptsAndSteal(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	var user, nice, system, idle, iowait, irq, softirq, steal int64
	if _, err := fmt.Sscanf(string(b), "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq,
		&softirq, &steal); err != nil {
		t.Fatal(err)
	}
	return time.Duration(irq+softirq+steal) * (time.Second / 100) // USER_HZ
}

// psOnCPU is P-Scope's account of how long all Ps of a process have been on a CPU.
func psOnCPU(c Collector, pid int) (d time.Duration) {
	v := view(c, pid)
	for i := range v.Ps {
		d += v.Ps[i].ThreadTime(pstate.OnCPU)
	}
	return d
}

// The kernel's own accounting of the process's CPU time is an independent witness of the time its Ps spent on a CPU.
func TestOnCPUTimeAgainstTheKernels(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, nil)
	p := start(t, "GOMAXPROCS=3")
	pid := p.cmd.Process.Pid
	seen(t, c, pid)
	p.say("busy 2")
	time.Sleep(200 * time.Millisecond)
	// On a busy machine time passes between two readings.
	reading := func() (before, ps, after time.Duration) { return threadsOnCPU(pid), psOnCPU(c, pid), threadsOnCPU(pid) }
	other0 := interruptsAndSteal(t)
	from0, p0, to0 := reading()
	time.Sleep(2 * time.Second)
	from1, p1, to1 := reading()
	// A running thread's schedstat lags by up to a tick, and leaves out interrupts and what the hypervisor took; sysmon
	// and threads without a P are in it as well.
	got, least, most := p1-p0, from1-to0, to1-from0+interruptsAndSteal(t)-other0
	if slack := most/50 + 20*time.Millisecond; got < least-slack || got > most+slack {
		t.Errorf("Ps were on a CPU for %v, the threads for between %v and %v", got, least, most)
	}
}

// A thread has one P at a time. One that has lost its P in a call and takes another when it comes back, without leaving
// its CPU, must not be counted with both: then Ps would be on a CPU for longer than there are threads on one.
func TestPLostInACall(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, nil)
	p := start(t, "GOMAXPROCS=2")
	pid := p.cmd.Process.Pid
	seen(t, c, pid)
	p.say("calls")
	time.Sleep(200 * time.Millisecond)
	c0, p0 := threadsOnCPU(pid), psOnCPU(c, pid)
	time.Sleep(3 * time.Second)
	c1, p1 := threadsOnCPU(pid), psOnCPU(c, pid)
	t.Logf("Ps were on a CPU for %v, the threads for %v", p1-p0, c1-c0)
	if got, most := p1-p0, c1-c0; got > most+most/50+20*time.Millisecond {
		t.Errorf("Ps were on a CPU for %v, the threads for %v only", got, most)
	}
}

func TestFoundAndClosedInTime(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode Mode) {
		c, rec := collectIn(t, mode, nil)
		time.Sleep(100 * time.Millisecond)
		p := start(t)
		t.Logf("a new process was found after %v; within 1 s is promised", seen(t, c, p.cmd.Process.Pid))
		key := view(c, p.cmd.Process.Pid).Key
		fmt.Fprintln(p.in, "exit")
		p.in.Flush()
		_ = p.cmd.Wait()
		waitFor(t, "the end is told", func() bool { rec.mu.Lock(); defer rec.mu.Unlock(); return rec.ended[key] != 0 })
		if v := view(c, p.cmd.Process.Pid); v != nil {
			t.Errorf("it has ended and is still in view")
		}
	})
}

func TestGOMAXPROCSChanges(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode Mode) {
		c, _ := collectIn(t, mode, nil)
		p := start(t, "GOMAXPROCS=2")
		pid := p.cmd.Process.Pid
		seen(t, c, pid)
		p.say("procs 11")
		waitFor(t, "11 Ps", func() bool { v := view(c, pid); return len(v.Ps) == 11 && v.GOMAXPROCS == 11 })
		p.say("busy 11")
		time.Sleep(200 * time.Millisecond)
		busy := 0
		for _, s := range shares(t, c, pid, time.Second) {
			if s[pstate.Running] > 0.5 {
				busy++
			}
		}
		if busy < 10 {
			t.Errorf("11 goroutines spin on 11 Ps, and %d Ps are busy", busy)
		}
		p.say("procs 1")
		waitFor(t, "ten dead Ps", func() bool {
			dead := 0
			for _, q := range view(c, pid).Ps {
				if q.State == pstate.Dead {
					dead++
				}
			}
			return dead == 10
		})
	})
}

func TestStopsAgainstTheRuntimesOwnCount(t *testing.T) {
	c, rec := collectIn(t, ModeEBPF, nil)
	p := start(t, "GOMAXPROCS=4")
	seen(t, c, p.cmd.Process.Pid)
	time.Sleep(200 * time.Millisecond)
	var n0, n1, ns0, ns1 uint64
	fmt.Sscanf(p.say("pauses"), "pauses %d %d", &n0, &ns0)
	p.say("gc 50")
	fmt.Sscanf(p.say("pauses"), "pauses %d %d", &n1, &ns1)
	// The ring is read ten times a second, later on a busy machine.
	waitFor(t, "all stops have come", func() bool {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		return len(rec.stops) >= 2*int(n1-n0)+2
	})
	rec.mu.Lock()
	defer rec.mu.Unlock()
	byReason := map[string]int{}
	var total time.Duration
	silent := 0
	for _, s := range rec.stops {
		byReason[s.Reason]++
		if strings.HasPrefix(s.Reason, "GC ") {
			total += s.Duration()
		}
		if s.Duration() <= 0 || len(s.Arrivals) > 4 {
			t.Errorf("a stop without length, or with more arrivals than Ps: %+v", s)
		}
		if len(s.Arrivals) == 0 {
			silent++
		}
	}
	// A P that was idle comes to rest without a sign, and now and then all others were.
	if silent > len(rec.stops)/5 {
		t.Errorf("%d of %d stops are without arrivals", silent, len(rec.stops))
	}
	for _, reason := range []string{"GC sweep termination", "GC mark termination"} {
		if got, want := byReason[reason], int(n1-n0); got != want {
			t.Errorf("%d stops for %s, the runtime counted %d collections (all: %v)", got, reason, want, byReason)
		}
	}
	if byReason["read mem stats"] != 2 {
		t.Errorf("%d stops for reading memory statistics, two were made (all: %v)", byReason["read mem stats"],
			byReason)
	}
	// Both take the time between the same two places, some ns apart, but for what preempts the thread there: on a busy
	// machine that may be milliseconds, once. So it is tried again.
	for try := 1; ; try++ {
		want := time.Duration(ns1 - ns0)
		if (total - want).Abs() <= want/20+100*20*time.Microsecond {
			t.Logf("stops of %v in all, the runtime says %v", total, want)
			return
		}
		if try == 3 {
			t.Fatalf("stops of %v in all, the runtime says %v, the third time", total, want)
		}
		t.Logf("stops of %v in all, the runtime says %v; once more", total, want)
		before := len(rec.stops)
		rec.mu.Unlock()
		n0, ns0 = n1, ns1
		p.say("gc 50")
		fmt.Sscanf(p.say("pauses"), "pauses %d %d", &n1, &ns1)
		waitFor(t, "all stops have come", func() bool {
			rec.mu.Lock()
			defer rec.mu.Unlock()
			return len(rec.stops) >= before+2*int(n1-n0)+1
		})
		rec.mu.Lock()
		total = 0
		for _, s := range rec.stops[before:] {
			if strings.HasPrefix(s.Reason, "GC ") {
				total += s.Duration()
			}
		}
	}
}

// The begin and the end of a stop are the runtime's own readings of the clock, where it has them at hand: most of these
// stops are shorter than a probe's trap takes.
func TestStopsAreAsLongAsTheRuntimeSays(t *testing.T) {
	c, rec := collectIn(t, ModeEBPF, nil)
	p := start(t, "GOMAXPROCS=4")
	seen(t, c, p.cmd.Process.Pid)
	var n int
	var least, most time.Duration
	if _, err := fmt.Sscanf(p.say("stops 400"), "stops %d %d %d", &n, &least, &most); err != nil || n != 400 {
		t.Fatalf("%d stops, error %v", n, err)
	}
	var seen int
	var total time.Duration
	waitFor(t, "all stops have come", func() bool {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		seen, total = 0, 0
		for _, s := range rec.stops {
			if s.Reason == "read mem stats" {
				seen++
				total += s.Duration()
			}
		}
		return seen >= n
	})
	t.Logf("%d stops of %v in all, the runtime says of %d between %v and %v", seen, total, n, least, most)
	// Either end is rounded down to a tick.
	if slack := time.Duration(n) * ledger.Tick; seen != n || total < least-slack || total > most+slack {
		t.Error("not as the runtime says")
	}
}

func TestQueueDepth(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, nil)
	p := start(t, "GOMAXPROCS=4")
	pid := p.cmd.Process.Pid
	seen(t, c, pid)
	p.say("queue 60")
	waitFor(t, "about sixty queued goroutines", func() bool {
		v := view(c, pid)
		n := v.GlobalRunq
		for _, q := range v.Ps {
			n += max(q.RunqDepth, 0)
		}
		return n >= 57 && n <= 61
	})
}

func TestExecIsANewTarget(t *testing.T) {
	c, rec := collectIn(t, ModeEBPF, nil)
	p := start(t)
	pid := p.cmd.Process.Pid
	seen(t, c, pid)
	key := view(c, pid).Key
	p.say("exec") // the new program says that it is ready
	waitFor(t, "the old program's end",
		func() bool { rec.mu.Lock(); defer rec.mu.Unlock(); return rec.ended[key] != 0 })
	seen(t, c, pid)
	p.say("busy 1")
	time.Sleep(500 * time.Millisecond)
	var busy float64
	for _, s := range shares(t, c, pid, time.Second) {
		busy += s[pstate.Running] + s[pstate.Syscall] + s[pstate.GC]
	}
	if busy < 0.6 { // of a busy machine's CPUs it does not get all
		t.Errorf("after exec one goroutine spins, and %.2f Ps are busy", busy)
	}
}

// Raw intervals of a P follow each other without overlap, and cover what the totals say.
func TestIntervalsAgreeWithTotals(t *testing.T) {
	c, rec := collectIn(t, ModeEBPF, nil)
	p := start(t, "GOMAXPROCS=2")
	pid := p.cmd.Process.Pid
	seen(t, c, pid)
	key := view(c, pid).Key
	a := view(c, pid)
	for range 5 {
		p.say("busy 1")
		time.Sleep(150 * time.Millisecond)
		p.say("idle")
		time.Sleep(150 * time.Millisecond)
	}
	time.Sleep(1300 * time.Millisecond) // until the last one is closed
	b := view(c, pid)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	busy := map[int32]int64{}
	last := map[int32]int64{}
	for _, iv := range rec.intervals[key] {
		if iv.Start < last[iv.P] || iv.End <= iv.Start {
			t.Fatalf("P%d: interval %+v after %d", iv.P, iv, last[iv.P])
		}
		last[iv.P] = iv.End
		if iv.State == pstate.Running && iv.End > a.At && iv.Start < b.At {
			busy[iv.P] += min(iv.End, b.At) - max(iv.Start, a.At)
		}
	}
	for i := range a.Ps {
		want := b.Ps[i].StateTime(pstate.Running) - a.Ps[i].StateTime(pstate.Running)
		if d := time.Duration(busy[int32(i)]) - want; d.Abs() > 30*time.Millisecond {
			t.Errorf("P%d: intervals of %v running, totals of %v", i, time.Duration(busy[int32(i)]), want)
		}
	}
}

// pretend makes a copy of a program that says it was built with another Go, which has a version string as long as its
// own: neither an old nor a future one can be had from every toolchain.
func pretend(t *testing.T, program, version string) string {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	old := runtime.Version()
	if len(old) < len(version) {
		t.Skipf("this test needs a version as long as %s, not %s", version, old)
	}
	version += strings.Repeat("9", len(old)-len(version))
	bin := filepath.Join(t.TempDir(), "pscope-test-target")
	if err := os.WriteFile(bin, bytes.ReplaceAll(text, []byte(old), []byte(version)), 0o755); err != nil {
		t.Fatal(err)
	}
	return bin
}

func TestOldAndFutureGo(t *testing.T) {
	full, err := targetBinary()
	if err != nil {
		t.Fatal(err)
	}
	stripped := filepath.Join(t.TempDir(), "stripped")
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", stripped,
		"./testdata/target").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, tc := range []struct {
		name, program, version string
		source                 pstate.Source
		layout                 pstate.Layout
		says                   []string
	}{
		{"too old", full, "go1.19.", pstate.SourceRefused, pstate.LayoutNone, []string{"1.19", "1.21"}},
		// What the debugging information describes needs no table.
		{"from the future", full, "go1.99.", pstate.SourceEBPF, pstate.LayoutDWARF, nil},
		{"from the future, stripped", stripped, "go1.99.", pstate.SourceEBPF, pstate.LayoutSearch, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := collectIn(t, ModeEBPF, nil)
			cmd := exec.Command(pretend(t, tc.program, tc.version))
			if _, err := cmd.StdinPipe(); err != nil { // it lives until its input ends
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			var got pstate.Target
			waitFor(t, "it is listed", func() bool {
				for _, x := range c.Targets() {
					if x.PID == int32(cmd.Process.Pid) {
						got = x
						return true
					}
				}
				return false
			})
			if got.Source != tc.source || got.Layout != tc.layout {
				t.Errorf("observed by %q with a layout from %q: %s", got.Source, got.Layout, got.Reason)
			}
			for _, part := range tc.says {
				if !strings.Contains(got.Reason, part) {
					t.Errorf("the reason %q does not say %q", got.Reason, part)
				}
			}
		})
	}
}

func TestExcludeWins(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.Exclude = regexp.MustCompile("test-target") })
	p := start(t)
	time.Sleep(1500 * time.Millisecond)
	if v := view(c, p.cmd.Process.Pid); v != nil {
		t.Errorf("an excluded process is observed")
	}
}

// A page fault on a file system that does not answer: the thread sleeps in state D with its P, the runtime calls that P
// running, and no Go tool shows anything. This is the case the D share is for.
func TestPinnedInUninterruptibleSleep(t *testing.T) {
	t.Run("with its P", func(t *testing.T) { pinnedInD(t, "d", 0) })
	// The runtime has taken the P away from a thread that is stuck in a call: it works on, and yet what it was used for
	// last waits.
	t.Run("without its P", func(t *testing.T) { pinnedInD(t, "dcall", 0) })
	// Neither is lost sight of between two windows.
	t.Run("with its P, in windows", func(t *testing.T) { pinnedInD(t, "d", 3) })
	t.Run("without its P, in windows", func(t *testing.T) { pinnedInD(t, "dcall", 3) })
}

func pinnedInD(t *testing.T, phase string, windows int) {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse: ", err)
	}
	needs(t, unix.CAP_SYS_ADMIN, "mounting the file system that does not answer")
	bin := filepath.Join(t.TempDir(), "pscope-test-target")
	if out, err := exec.Command("go", "build", "-o", bin, "../cmd/pscope").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.CostBudget, o.Windows = -1, windows })
	demo := exec.Command(bin, "demo", "-phases", phase, "-phase-seconds", "1", "-d-seconds", "20", "-once")
	out, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	demo.Stderr = os.Stderr
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // it takes its file system down before it ends
		_ = demo.Process.Signal(os.Interrupt)
		_ = demo.Wait()
	})
	pid := demo.Process.Pid
	var event struct {
		Event string `json:"event"`
		TID   int32  `json:"tid"`
	}
	for lines := bufio.NewScanner(out); event.Event != "touch" && lines.Scan(); {
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // it must not block on its output
	seen(t, c, pid)
	proc := procfs.FS("/proc")
	waitFor(t, "the thread is in D", func() bool {
		s, _, err := proc.ThreadState(int32(pid), event.TID)
		return err == nil && s == pstate.Uninterruptible
	})
	time.Sleep(300 * time.Millisecond)
	onePinned(t, c, pid, phase)
	if windows > 0 {
		onePinned(t, c, pid, phase) // by now it has been through a window and the time after
		return
	}
	if phase == "dcall" {
		return // snapshots don't show what a thread last carried
	}
	// The thread goes on sleeping while less is observed, and while all is again.
	o := observedAs(t, c, pid)
	for _, level := range []govern.Level{govern.OnlySnapshots, govern.Everything} {
		t.Logf("level %d", level)
		o.Inspect(func(in target.Inside) { in.Step(level) })
		time.Sleep(300 * time.Millisecond)
		onePinned(t, c, pid, phase)
	}
	if v := view(c, pid); v.Reconciled["overcounted_uninterruptible"] != 0 {
		t.Errorf("repaired: %v", v.Reconciled)
	}
}

// onePinned tests that one P is pinned in D, all of the time.
func onePinned(t *testing.T, c Collector, pid int, phase string) {
	t.Helper()
	a := view(c, pid)
	time.Sleep(3 * time.Second) // the threads are counted every second, and what two counts say is believed
	b := view(c, pid)
	if a == nil || b == nil {
		t.Fatal("the demo is not observed")
	}
	pinned := 0
	wall := float64(b.At - a.At)
	for i := range b.Ps {
		d := float64(b.Ps[i].Uninterruptible-a.Ps[i].Uninterruptible) / wall
		held := float64(b.Ps[i].ThreadTime(pstate.Uninterruptible)-a.Ps[i].ThreadTime(pstate.Uninterruptible)) / wall
		running := float64(b.Ps[i].StateTime(pstate.Running)-a.Ps[i].StateTime(pstate.Running)) / wall
		t.Logf("P%d: D share %.4f, carried by a thread in D %.4f, running %.4f", i, d, held, running)
		if d > 0.99 && d < 1.01 && (phase == "d" && held > 0.99 && running > 0.99 || phase == "dcall" && held < 0.01) {
			pinned++
		} else if d > 0.01 {
			t.Errorf("P%d: D share %.3f, carried by a thread in D %.3f, running %.3f", i, d, held, running)
		}
	}
	if pinned != 1 {
		t.Errorf("%d Ps are pinned in D, want one", pinned)
	}
}
