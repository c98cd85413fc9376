package collector

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/exp/trace"

	"github.com/p-scope/p-scope/pkg/collector/govern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/collector/migration"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// startedOn is a start of a goroutine by a trace.
type startedOn struct {
	mono int64
	g    trace.GoID
	p    int32
	last int32 // P it ran on before; -1: its first start in the trace
	gap  int64 // time since its last start
}

// readStarts takes the starts from a trace, and the CLOCK_MONOTONIC range it covers.
func readStarts(t *testing.T, path string) (starts []startedOn, from, to int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rd, err := trace.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var toMono int64
	last := map[trace.GoID]startedOn{}
	for {
		ev, err := rd.ReadEvent()
		if errors.Is(err, io.EOF) {
			return starts, from, to
		}
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind() == trace.EventSync {
			if c := ev.Sync().ClockSnapshot; c != nil && toMono == 0 {
				toMono = int64(c.Mono) - int64(c.Trace)
			}
			continue
		}
		now := int64(ev.Time()) + toMono
		if from == 0 {
			from = now
		}
		to = now
		if ev.Kind() != trace.EventStateTransition {
			continue
		}
		st := ev.StateTransition()
		if st.Resource.Kind != trace.ResourceGoroutine {
			continue
		}
		was, is := st.Goroutine()
		g, p := st.Resource.Goroutine(), int32(ev.Proc())
		if is != trace.GoRunning || p < 0 {
			continue
		}
		s := startedOn{mono: now, g: g, p: p, last: -1}
		if l, ok := last[g]; ok {
			s.last, s.gap = l.p, now-l.mono
		}
		if was == trace.GoSyscall || was == trace.GoUndetermined {
			// It goes on; where it does is where it ran last.
			if l, ok := last[g]; ok {
				s.mono = l.mono
			}
			last[g] = s
			continue
		}
		last[g] = s
		starts = append(starts, s)
	}
}

// workloadDir holds the program of bench/truth, once it is built.
var workloadDir string

// buildWorkload builds the program of bench/truth.
var buildWorkload = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pscope-workload")
	if err != nil {
		return "", err
	}
	workloadDir = dir
	bin := filepath.Join(dir, "workload")
	out, err := exec.Command("go", "build", "-o", bin,
		"github.com/p-scope/p-scope/bench/truth/workload").CombinedOutput()
	if err != nil {
		return "", errors.New(err.Error() + "\n" + string(out))
	}
	return bin, nil
})

// runWorkload starts it; the arguments are its own.
func runWorkload(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	bin, err := buildWorkload()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// withMigrations asks for tier 2.
func withMigrations(o *Options) {
	o.Include, o.Migrations = regexp.MustCompile("^(workload|pscope-test-target)$"), true
}

// observedAs waits until a process is observed.
func observedAs(t *testing.T, c Collector, pid int) *target.Target {
	t.Helper()
	seen(t, c, pid)
	all := c.(*collect).all()
	i := slices.IndexFunc(all, func(o *target.Target) bool { return o.PID() == int32(pid) })
	if i < 0 {
		t.Fatal("the target is not observed any more")
	}
	return all[i]
}

// running starts a collector; stop ends it and waits.
func running(t *testing.T, o Options) (c Collector, stop func()) {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return c, stop
}

// windowsOf records the windows of a target.
func windowsOf(t *testing.T, c Collector, pid int) func() []migration.Window {
	t.Helper()
	var mu sync.Mutex
	var got []migration.Window
	observedAs(t, c, pid).Migrations().OnWindow(func(w migration.Window) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, w)
	})
	return func() []migration.Window {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

// In each window, the migrations of each P are those that runtime/trace tells of the same window; and what is estimated
// from them is what the trace has of all that end in it.
func TestMigrationsAgainstTrace(t *testing.T) {
	if testing.Short() {
		t.Skip("traces for a while")
	}
	for _, load := range []string{"sleepers", "echo", "http"} {
		t.Run(load, func(t *testing.T) {
			// On a machine that is too busy with other things, a trace may be over before the first window.
			for range 2 {
				if compareWithTrace(t, load) > 0 {
					return
				}
			}
			t.Error("there was no window")
		})
	}
}

func compareWithTrace(t *testing.T, load string) (n int) {
	t.Helper()
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { withMigrations(o); o.CostBudget = 0.5 })
	file := filepath.Join(t.TempDir(), "trace")
	cmd := runWorkload(t, "-trace", file, "-warm", "4s", "-run", "8s", "-procs", "4", load)
	windows := windowsOf(t, c, cmd.Process.Pid)
	type reading struct {
		mono int64
		sum  float64
	}
	var readings []reading
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		case <-time.After(20 * time.Millisecond):
			if v := view(c, cmd.Process.Pid); v != nil && v.Migrations.Counted {
				r := reading{mono: ledger.Monotonic()}
				for _, p := range v.Ps {
					r.sum += float64(p.Migrations)
				}
				readings = append(readings, r)
			}
		}
	}
	starts, from, to := readStarts(t, file)
	var seen, told, inside, estimate, watched float64
	var worst float64
	for _, w := range windows() {
		if w.Begin < from || w.End > to {
			continue
		}
		n++
		byP := make([]float64, len(w.Came))
		for _, s := range starts {
			if s.mono < w.Begin || s.mono >= w.End || s.last < 0 || s.last == s.p || int(s.p) >= len(byP) {
				continue
			}
			told++
			if s.mono-s.gap >= w.Begin {
				byP[s.p]++
				inside++
			}
		}
		for p, came := range w.Came {
			seen += float64(came)
			worst = max(worst, math.Abs(float64(came)-byP[p])/max(byP[p], 50))
			estimate += w.Rates[p] * float64(w.End-w.Begin) / 1e9
		}
		watched += float64(w.End-w.Begin) / 1e9
		t.Logf("window of %v: %d hits, cost %v (attach %v, detach %v), first %d, seen again %d, by P %v, trace %v",
			time.Duration(w.End-w.Begin), w.Hits, w.Cost, w.Took[0], w.Took[1], w.First, w.Again, w.Came, byP)
	}
	if n == 0 {
		return 0
	}
	var all float64
	for _, s := range starts {
		if s.last >= 0 && s.last != s.p {
			all++
		}
	}
	at := func(mono int64) float64 {
		i := slices.IndexFunc(readings, func(r reading) bool { return r.mono >= mono })
		if i < 0 {
			i = len(readings) - 1
		}
		return readings[i].sum
	}
	grown := at(to) - at(from)
	t.Logf("%d windows, %.2f s: seen %.0f, by the trace %.0f (worst P and window off by %.1f %%); with those that "+
		"began before, %.0f, estimated %.0f; over the whole trace %.0f, counter %.0f",
		n, watched, seen, inside, 100*worst, told, estimate, all, grown)
	if math.Abs(seen-inside) > 0.02*inside+5 {
		t.Errorf("%.0f migrations were seen in the windows, the trace has %.0f", seen, inside)
	}
	if worst > 0.1 {
		t.Errorf("a P is off by %.1f %% in a window", 100*worst)
	}
	if math.Abs(estimate-told) > 0.02*told+20 {
		t.Errorf("%.0f migrations are estimated in the windows, the trace has %.0f", estimate, told)
	}
	return n
}

// The budget is kept where goroutines start most often: the windows' cost is a small part of the CPU time.
func TestMigrationsKeepTheBudget(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	// On a machine where tiers 0 and 1 take nearly the usual budget here, nothing would be left for tier 2.
	const budget = 0.06
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { withMigrations(o); o.CostBudget = budget })
	cmd := runWorkload(t, "-run", "10m", "-procs", "2", "channel")
	pid := cmd.Process.Pid
	windows := windowsOf(t, c, pid)
	time.Sleep(time.Second)
	stat, err := procfs.FS("/proc").Stat(int32(pid))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(25 * time.Second)
	after, err := procfs.FS("/proc").Stat(int32(pid))
	if err != nil {
		t.Fatal(err)
	}
	var cost, most time.Duration
	for _, w := range windows() {
		cost += w.Cost
		most = max(most, w.Cost)
		t.Logf("window of %v: %d hits, cost %v, attach %v, detach %v", time.Duration(w.End-w.Begin), w.Hits, w.Cost,
			w.Took[0], w.Took[1])
	}
	cpu := after.CPU - stat.CPU
	t.Logf("%d windows cost %v of %v: %.2f %%", len(windows()), cost, cpu, 100*cost.Seconds()/cpu.Seconds())
	if len(windows()) < 1 {
		t.Errorf("%d windows", len(windows()))
	}
	// The last window is paid for afterwards.
	if cost-most > time.Duration(budget*float64(cpu)) {
		t.Errorf("the windows cost %v of %v CPU time", cost, cpu)
	}
	v := view(c, pid)
	if !v.Migrations.Counted || v.Migrations.Watched == 0 || v.ProbeTime["2"] == 0 {
		t.Errorf("%+v, %v", v.Migrations, v.ProbeTime)
	}
}

// What a hit costs the target is what it is charged with, give or take the noise of a busy machine.
func TestCostOfAStart(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	c, _ := collectIn(t, ModeEBPF, withMigrations)
	bin, err := buildWorkload()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-serve", "-procs", "1", "channel")
	p, stdin := piped(t, cmd)
	t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	p.out.Scan()
	o := observedAs(t, c, cmd.Process.Pid)
	o.EndMigrations()
	waitFor(t, "what a hit of a uprobe costs here has been measured",
		func() bool { return c.(*collect).kernel.TrapMeasured() })
	type done struct {
		Ops       float64
		CPU, Wall time.Duration
	}
	measure := func(while time.Duration) (d done) {
		if err := json.Unmarshal([]byte(p.say("window %v", while)), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	var real, charged []float64
	o.Migrations().ExpectAll()
	for range 5 {
		without := measure(500 * time.Millisecond)
		got := make(chan migration.Window, 1)
		go func() {
			w, err := o.Migrations().Count(t.Context(), 800*time.Millisecond)
			if err != nil {
				t.Error(err)
			}
			got <- w
		}()
		for !breakpoint(t, o) {
			time.Sleep(time.Millisecond)
		}
		with := measure(500 * time.Millisecond)
		w := <-got
		if w.Hits == 0 || with.Ops == 0 {
			t.Fatal("no goroutine started")
		}
		slower := without.Ops / without.CPU.Seconds() / (with.Ops / with.CPU.Seconds())
		real = append(real, float64(with.CPU)*(1-1/slower)/(2*with.Ops)) // an operation starts two goroutines
		charged = append(charged, float64(w.Cost-migration.SetupCost)/float64(w.Hits))
		t.Logf("%.0f ns a hit, charged with %.0f, of which %.0f in the program; %.2f times slower", real[len(real)-1],
			charged[len(charged)-1],
			charged[len(charged)-1]-float64(c.(*collect).kernel.TrapCost()), slower)
	}
	slices.Sort(real)
	slices.Sort(charged)
	if r, c := real[2], charged[2]; r > 1.5*c || r < 0.5*c {
		t.Errorf("a hit costs %.0f ns and is charged with %.0f", r, c)
	}
}

// breakpoint says whether the program of a process has been changed at the site where goroutines start.
func breakpoint(t *testing.T, o *target.Target) bool {
	t.Helper()
	site, err := o.Binary().StartedProbe()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(int(o.PID())), "mem"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var at uint64
	o.Inspect(func(in target.Inside) { at = in.Address(site.Addr) })
	inMemory, onDisk := make([]byte, 4), make([]byte, 4)
	if _, err := f.ReadAt(inMemory, int64(at)); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Open(filepath.Join("/proc", strconv.Itoa(int(o.PID())), "exe"))
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	if _, err := exe.ReadAt(onDisk, int64(site.FileOffset)); err != nil {
		t.Fatal(err)
	}
	return string(inMemory) != string(onDisk)
}

// Fifty windows leave a program alone that checks its own results under load, and the probe is in its code only while a
// window is open.
func TestWindowsLeaveTheTargetAlone(t *testing.T) {
	p := startChecker(t)
	n := p.rounds(0)
	c, _ := collectIn(t, ModeEBPF, withMigrations)
	o := observedAs(t, c, p.cmd.Process.Pid)
	o.EndMigrations() // the test opens the windows
	for i := range 50 {
		length := time.Duration(5+i%7*5) * time.Millisecond
		if i%10 == 0 {
			done := make(chan struct{})
			go func() {
				defer close(done)
				if _, err := o.Migrations().Count(t.Context(), 300*time.Millisecond); err != nil {
					t.Error(err)
				}
			}()
			there := false
			for open := true; open && !there; {
				select {
				case <-done:
					open = false
				case <-time.After(5 * time.Millisecond):
					there = breakpoint(t, o)
				}
			}
			if !there {
				t.Error("no probe in the code while the window was open")
			}
			<-done
		} else if _, err := o.Migrations().Count(t.Context(), length); err != nil {
			t.Fatal(err)
		}
		if breakpoint(t, o) {
			t.Fatal("the probe is still in the code after the window")
		}
		n = p.rounds(n)
	}
}

// A target that ends in mid-window, and an agent that does.
func TestWindowsEndWithTargetAndAgent(t *testing.T) {
	for _, who := range []string{"target", "agent"} {
		t.Run(who, func(t *testing.T) {
			p := start(t, "GOMAXPROCS=2")
			p.say("chatter 50")
			o := Options{Mode: ModeEBPF, Include: regexp.MustCompile("^pscope-test-target$"), Migrations: true,
				CostBudget: 0.5}
			c, stop := running(t, o)
			target := observedAs(t, c, p.cmd.Process.Pid)
			// It starts by itself; wait until it is in mid-window.
			waitFor(t, "a window is open", func() bool { return breakpoint(t, target) })
			if who == "target" {
				_ = p.cmd.Process.Kill()
				_ = p.cmd.Wait()
				waitFor(t, "the observation ends", func() bool { return len(c.(*collect).all()) == 0 })
				select {
				case <-target.Migrations().Ended():
				case <-time.After(5 * time.Second):
					t.Error("tier 2 goes on without its target")
				}
				stop()
				return
			}
			began := time.Now()
			stop()
			if d := time.Since(began); d > 3*time.Second {
				t.Errorf("stopping took %v", d)
			}
			again, _ := running(t, o)
			other := observedAs(t, again, p.cmd.Process.Pid)
			other.EndMigrations()
			if breakpoint(t, other) {
				t.Error("the probe is still in the code after the agent has ended")
			}
			p.say("idle")
		})
	}
}

// Absent where it is not asked for, or where a program has no place for the probe: then with the reason.
func TestMigrationsAreAbsentWithAReason(t *testing.T) {
	p := start(t)
	c, _ := collectIn(t, ModeEBPF, nil)
	seen(t, c, p.cmd.Process.Pid)
	if v := view(c, p.cmd.Process.Pid); v.Migrations.Counted || v.Reason != "" || len(v.ProbeTime) != 1 {
		t.Errorf("not asked for: %+v, %q, %v", v.Migrations, v.Reason, v.ProbeTime)
	}
	c, _ = collectIn(t, ModeEBPF, withMigrations)
	o := observedAs(t, c, p.cmd.Process.Pid)
	o.EndMigrations()
	bin := *o.Binary()
	for i, s := range bin.Probes {
		if s.Func == "execute" {
			bin.Probes = slices.Delete(slices.Clone(bin.Probes), i, i+1)
			break
		}
	}
	o.StartMigrationsAt(bin.StartedProbe())
	v := view(c, p.cmd.Process.Pid)
	if v.Migrations.Counted || !strings.Contains(v.Reason, "migrations are not counted: runtime.execute is not in the "+
		"program") || v.Source != pstate.SourceEBPF {
		t.Errorf("%+v, %q", v.Migrations, v.Reason)
	}

	// The first that is left out where observing costs too much.
	p.say("chatter 200")
	c, _ = collectIn(t, ModeEBPF, func(o *Options) { withMigrations(o); o.CostBudget, o.CostFloor = 1e-9, -1 })
	waitFor(t, "migrations are left out", func() bool {
		v := view(c, p.cmd.Process.Pid)
		return v != nil && v.Governor.Level >= int(govern.NoMigrations) && strings.Contains(v.Reason, "left out") &&
			(strings.Contains(v.Reason, "goroutine migrations") || v.Governor.Level == int(govern.OnlySnapshots))
	})
	if v := view(c, p.cmd.Process.Pid); v == nil || v.Migrations.Counted {
		t.Error("they are counted nevertheless")
	}
}
