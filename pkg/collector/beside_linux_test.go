package collector

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/probes"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Other tools on the same functions of the same process: neither disturbs the other.
// docs/beside-other-tools.md says what was tried.

// installed gives the path of a program that these tests use, or skips.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// stopSite is where the collector's probe lies in a program.
func stopSite(t *testing.T, path string) probes.Site {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	bin, err := goruntime.Inspect(file)
	if err != nil {
		t.Fatal(err)
	}
	site, ok := bin.Probe(kernel.StopProbe)
	if !ok {
		t.Fatalf("%s has no place for the probe on %s", path, kernel.StopProbe)
	}
	return site
}

// stopCounter is a sink that counts the stops of one process.
type stopCounter struct {
	pid   int32
	count atomic.Int64
}

func (s *stopCounter) Append(pstate.Key, []pstate.Interval) {}
func (s *stopCounter) Lost(pstate.Key, string, uint64)      {}
func (s *stopCounter) End(pstate.Key, int64)                {}
func (s *stopCounter) AppendStop(k pstate.Key, _ pstate.Stop) {
	if k.PID == s.pid {
		s.count.Add(1)
	}
}

// observer is something that counts stops of the world of one process and can be ended.
type observer struct {
	name  string
	stops func() int
	end   func()
}

// observe starts a collector. It counts stops when this returns.
func observe(t *testing.T, p *child) *observer {
	t.Helper()
	sink := &stopCounter{pid: int32(p.cmd.Process.Pid)}
	c, err := New(Options{Mode: ModeEBPF, Include: regexp.MustCompile("^pscope-test-target$"), Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	o := &observer{"P-Scope", func() int { return int(sink.count.Load()) },
		sync.OnceFunc(func() { cancel(); wg.Wait() })}
	t.Cleanup(o.end)
	seen(t, c, p.cmd.Process.Pid)
	o.settle(t, p)
	return o
}

// startTracer starts bpftrace with probes on both ends of a stop. It counts stops when this returns.
func startTracer(t *testing.T, p *child) *observer {
	t.Helper()
	script := fmt.Sprintf(`uprobe:%[1]s:runtime.stopTheWorldWithSema { printf("stop\n"); }
		uprobe:%[1]s:runtime.startTheWorldWithSema { printf("start\n"); }`, p.cmd.Path)
	cmd := exec.Command(installed(t, "bpftrace"), "-p", fmt.Sprint(p.cmd.Process.Pid), "-e", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var stops, starts atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			switch s.Text() {
			case "stop":
				stops.Add(1)
			case "start":
				starts.Add(1)
			}
		}
	}()
	o := &observer{name: "bpftrace", stops: func() int { return int(min(stops.Load(), starts.Load())) }}
	o.end = sync.OnceFunc(func() {
		// It loses a signal that comes at the wrong moment, and may do so more than once.
		ask := time.NewTicker(time.Second)
		defer ask.Stop()
		giveUp := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer giveUp.Stop()
		for _ = cmd.Process.Signal(os.Interrupt); ; {
			select {
			case <-ask.C:
				_ = cmd.Process.Signal(os.Interrupt)
				continue
			case <-ended:
			}
			break
		}
		if err := cmd.Wait(); err != nil {
			t.Logf("bpftrace ended with %v", err) // how it ends is its own affair
		}
	})
	t.Cleanup(o.end)
	o.settle(t, p)
	return o
}

// settle waits until the observer counts, and has counted what there was until now.
func (o *observer) settle(t *testing.T, p *child) {
	t.Helper()
	waitFor(t, o.name+" counts stops", func() bool {
		p.say("pauses")
		time.Sleep(100 * time.Millisecond)
		return o.stops() > 0
	})
	before := -1
	for n := o.stops(); n != before; n = o.stops() {
		before = n
		time.Sleep(500 * time.Millisecond)
	}
}

// countAlike makes stops and demands that each of the observers counts every one of them, and no other.
func countAlike(t *testing.T, p *child, observers ...*observer) {
	t.Helper()
	const made = 25
	before := make([]int, len(observers))
	for i, o := range observers {
		before[i] = o.stops()
	}
	for range made {
		p.say("pauses") // each stops the world once
	}
	for i, o := range observers {
		waitFor(t, fmt.Sprintf("%s counts %d stops", o.name, made), func() bool { return o.stops() >= before[i]+made })
	}
	time.Sleep(300 * time.Millisecond)
	for i, o := range observers {
		if n := o.stops() - before[i]; n != made {
			t.Errorf("%s counts %d stops, %d were made", o.name, n, made)
		}
	}
}

// besideEachOther starts two observers, ends the first or the second of them, and then the other. The program goes on,
// another one checks itself meanwhile, and the code is what it was.
func besideEachOther(t *testing.T, lastFirst bool, first, second func(t *testing.T, p *child) *observer) {
	p := start(t)
	pid, site := p.cmd.Process.Pid, stopSite(t, p.cmd.Path)
	untouched := codeAt(t, pid, site.Addr)
	checker := startChecker(t)
	n := checker.rounds(0)
	a := first(t, p)
	countAlike(t, p, a)
	b := second(t, p)
	countAlike(t, p, a, b)
	if lastFirst {
		a, b = b, a
	}
	a.end()
	countAlike(t, p, b)
	b.end()
	p.say("pauses")
	waitFor(t, "the code is what it was", func() bool { return codeAt(t, pid, site.Addr) == untouched })
	checker.rounds(n)
}

func TestBesideATracer(t *testing.T) {
	installed(t, "bpftrace")
	needs(t, unix.CAP_SYS_ADMIN, "bpftrace")
	t.Run("tracer first", func(t *testing.T) { besideEachOther(t, false, startTracer, observe) })
	t.Run("P-Scope first", func(t *testing.T) { besideEachOther(t, false, observe, startTracer) })
	t.Run("P-Scope first and last", func(t *testing.T) { besideEachOther(t, true, observe, startTracer) })
}

// Two agents have their probes on the same instructions.
func TestTwoAgents(t *testing.T) {
	t.Run("the first ends first", func(t *testing.T) { besideEachOther(t, false, observe, observe) })
	t.Run("the second ends first", func(t *testing.T) { besideEachOther(t, true, observe, observe) })
}

// A debugger that is attached while the probes lie in the code stops where it is told, sees the probes, and leaves them
// to the collector.
func TestBesideADebugger(t *testing.T) {
	gdb := installed(t, "gdb")
	needs(t, unix.CAP_SYS_PTRACE, "gdb")
	p := startChecker(t)
	pid := p.cmd.Process.Pid
	path := p.cmd.Path
	site := stopSite(t, path)
	o := observeAnyStops(t, pid)
	n := p.rounds(0)
	out, err := exec.Command(gdb, "-nx", "-batch", "-p", fmt.Sprint(pid),
		"-ex", "set confirm off",
		"-ex", "handle all nostop noprint pass",
		"-ex", fmt.Sprintf("x/1xb %#x", site.Addr),
		"-ex", "break runtime.gcMarkTermination",
		"-ex", "continue", "-ex", "backtrace 3", "-ex", "continue", "-ex", "delete", "-ex", "detach").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	if runtime.GOARCH == "amd64" && !strings.Contains(string(out), "0xcc") {
		t.Error("gdb does not see the probe")
	}
	if hits := strings.Count(string(out), "hit Breakpoint 1"); hits != 2 {
		t.Errorf("gdb stopped %d times, want 2", hits)
	}
	p.rounds(n)
	stops := o.stops()
	waitFor(t, "stops are counted after the debugger has gone", func() bool { return o.stops() > stops })
}

// observeAnyStops starts a collector beside a program that stops its world by itself.
func observeAnyStops(t *testing.T, pid int) *observer {
	t.Helper()
	sink := &stopCounter{pid: int32(pid)}
	_, _ = collectIn(t, ModeEBPF, func(o *Options) { o.Sink = sink })
	o := &observer{name: "P-Scope", stops: func() int { return int(sink.count.Load()) }}
	waitFor(t, "stops are counted", func() bool { return o.stops() > 0 })
	return o
}
