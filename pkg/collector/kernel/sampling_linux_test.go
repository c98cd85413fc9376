package kernel

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
)

// A CPU that is idle need not give samples: none is missing, and its event is left alone.
func TestAnIdleCPUMissesNothing(t *testing.T) {
	s := sampler(t, 99)
	rested := time.Duration(0)
	s.idle = func() map[int]time.Duration {
		all := map[int]time.Duration{}
		for cpu := range s.sampled {
			all[cpu] = rested
		}
		return all
	}
	s.count(ledger.Monotonic())
	for cpu, c := range s.sampled {
		c.behind = 0
		if err := unix.IoctlSetInt(c.event, unix.PERF_EVENT_IOC_DISABLE, 0); err != nil {
			t.Fatal(cpu, err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	s.count(ledger.Monotonic())
	lost := s.lost.Load()
	rested += 10 * time.Second
	// of 990 a CPU; the test itself takes a moment
	if dead := s.count(ledger.Monotonic() + int64(rested)); len(dead) != 0 || s.lost.Load()-lost > 50 {
		t.Errorf("%v are taken for dead, %d samples for lost", dead, s.lost.Load()-lost)
	}
	if dead := s.count(ledger.Monotonic() + 2*int64(rested)); len(dead) != len(s.sampled) {
		t.Errorf("ten seconds of work without a sample: only %v are taken for dead", dead)
	}
}

// keepBusy lets something run on every CPU until the test ends: some virtual machines give no samples of one that is
// idle.
func keepBusy(t *testing.T) {
	t.Helper()
	list, err := os.ReadFile(procfs.SysCPUs + "/online")
	if err != nil {
		t.Fatal(err)
	}
	online, err := procfs.ParseCPUs(string(list))
	if err != nil {
		t.Fatal(err)
	}
	for _, cpu := range online {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(cmd.Process.Pid, &set); err != nil {
			t.Fatal(err)
		}
	}
}

// sampler gives a sampling of its own, of which nothing else looks after.
func sampler(t *testing.T, hz int) *Sampling {
	t.Helper()
	k, err := load(defaultKernelOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	if err := k.Samples.attach(k.Objects.Sample, k.sampled, hz); err != nil {
		t.Fatal(err)
	}
	return &k.Samples
}

// Every CPU that is online is sampled, also where the agent may run on one of them only.
func TestEveryCPUIsSampledWhateverTheAffinity(t *testing.T) {
	keepBusy(t)
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // the thread ends with it
		defer close(done)
		lockThread(t)
		one.Set(0)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Error(err)
			return
		}
		s := sampler(t, 99)
		list, err := os.ReadFile(procfs.SysCPUs + "/online")
		if err != nil {
			t.Error(err)
			return
		}
		online, _ := procfs.ParseCPUs(string(list))
		before := make([]uint64, len(s.counts))
		for _, cpu := range online {
			before[cpu] = atomic.LoadUint64(&s.counts[cpu].Samples)
		}
		begun := time.Now()
		time.Sleep(time.Second)
		for _, cpu := range online {
			n := float64(atomic.LoadUint64(&s.counts[cpu].Samples) - before[cpu])
			if due := time.Since(begun).Seconds() * 99; n < due/4 || n > due+2 {
				t.Errorf("%.0f samples came of CPU %d, %.0f should have", n, cpu, due)
			}
		}
		if l, ok := s.Lack(); ok {
			t.Errorf("%+v", l)
		}
	}()
	<-done
}

// An event that has died, as when its CPU was offline for a moment, is noticed, what it did not give is counted, and it
// is opened anew.
func TestADeadEventIsOpenedAnew(t *testing.T) {
	keepBusy(t)
	s := sampler(t, 99)
	cpu := s.online.CPUs[len(s.online.CPUs)-1]
	if err := unix.IoctlSetInt(s.sampled[cpu].event, unix.PERF_EVENT_IOC_DISABLE, 0); err != nil {
		t.Fatal(err)
	}
	s.count(ledger.Monotonic()) // from here on nothing comes
	lost := s.lost.Load()
	event := s.sampled[cpu]
	time.Sleep(time.Second)
	var text bytes.Buffer
	s.Check(time.Now(), slog.New(slog.NewTextHandler(&text, nil)))
	if s.sampled[cpu] == event || s.sampled[cpu] == nil || !strings.Contains(text.String(), "CPU "+strconv.Itoa(cpu)) {
		t.Errorf("the event is not new; the log says %s", &text)
	}
	if n := s.lost.Load() - lost; n < 95 {
		t.Errorf("%d missing samples are counted of 99 a second", n)
	}
	seen := atomic.LoadUint64(&s.counts[cpu].Samples)
	waitForSamples(t, "samples come again", func() bool { return atomic.LoadUint64(&s.counts[cpu].Samples) > seen+5 })
}

// Half of the samples don't come: those that do stand for twice the time.
func TestSamplesStandForThoseThatDoNotCome(t *testing.T) {
	keepBusy(t)
	s := sampler(t, 100)
	s.idle = nil
	s.mu.Lock()
	period := s.Period
	s.mu.Unlock()
	cpu := s.online.CPUs[0]
	c := s.sampled[cpu]
	now := ledger.Monotonic()
	c.at, c.seen, c.behind = now, atomic.LoadUint64(&s.counts[cpu].Samples), 0
	// As if the clock had gone twice as fast as the samples.
	time.Sleep(500 * time.Millisecond)
	seen := atomic.LoadUint64(&s.counts[cpu].Samples) - c.seen
	lost := s.lost.Load()
	s.mu.Lock()
	for other := range s.sampled {
		if other != cpu {
			s.leave(other)
		}
	}
	s.mu.Unlock()
	s.count(now + 2*int64(seen)*int64(period))
	each := float64(atomic.LoadUint32(&s.counts[cpu].TicksEach)) / float64(period/ledger.Tick)
	if each < 1.8 || each > 2.2 {
		t.Errorf("a sample stands for %.2f periods when half of them are missing", each)
	}
	if n := s.lost.Load() - lost; n < seen-3 || n > seen+1 {
		t.Errorf("%d of %d are counted as lost", n, 2*seen)
	}
	// All come again.
	c.at, c.seen, c.behind = ledger.Monotonic(), atomic.LoadUint64(&s.counts[cpu].Samples), 0
	s.count(c.at + int64(period))
	if got := atomic.LoadUint32(&s.counts[cpu].TicksEach); got != uint32(period/ledger.Tick) {
		t.Errorf("a sample stands for %d ticks, %d are between two", got, period/ledger.Tick)
	}
}

// CPUs whose numbers have gaps, and that come and go, as the kernel's list says.
func TestCPUsComeAndGo(t *testing.T) {
	keepBusy(t)
	dir := t.TempDir()
	say := func(list string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "online"), []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := sampler(t, 99)
	last := s.online.CPUs[len(s.online.CPUs)-1]
	if last == 0 {
		t.Skip("this machine has one CPU")
	}
	say("0\n")
	s.online.Close()
	var err error
	if s.online, err = procfs.OpenOnlineCPUs(dir); err != nil {
		t.Fatal(err)
	}
	came, went := s.follow(time.Now())
	if len(came) != 0 || !slices.Contains(went, last) || len(s.sampled) != 1 {
		t.Fatalf("came %v, went %v; sampled %d", came, went, len(s.sampled))
	}
	// It comes back, with one that there can't be: that one is named, and no other.
	say("0," + strconv.Itoa(last) + ",8000\n")
	s.Check(time.Now(), slog.New(slog.DiscardHandler))
	if s.sampled[last] == nil || len(s.sampled) != 2 {
		t.Fatalf("%d CPUs are sampled", len(s.sampled))
	}
	l, ok := s.Lack()
	if !ok || l.What != "samples of CPU 8000" {
		t.Errorf("what can't be sampled: %+v", l)
	}
	seen := atomic.LoadUint64(&s.counts[last].Samples)
	waitForSamples(t, "samples come again", func() bool { return atomic.LoadUint64(&s.counts[last].Samples) > seen+5 })
	say("0," + strconv.Itoa(last) + "\n")
	s.Check(time.Now(), slog.New(slog.DiscardHandler))
	if l, ok := s.Lack(); ok {
		t.Errorf("it is gone and still named: %+v", l)
	}
}

// waitForSamples polls until ok, for half a minute at most.
func waitForSamples(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
