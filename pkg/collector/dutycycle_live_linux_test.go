package collector

import (
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/govern"
	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Observed for one second in three, a target looks as if it were observed all the time: its Ps are on a CPU for the
// same share of the kernel's own account, sums are wall time and never fall, and threads are known.
func TestObservedInWindows(t *testing.T) {
	p := start(t, "GOMAXPROCS=3")
	pid := p.cmd.Process.Pid
	p.say("chatter 50")
	measure := func(c Collector) float64 {
		c0, p0 := threadsOnCPU(pid), psOnCPU(c, pid)
		for range 4 {
			shares(t, c, pid, 1500*time.Millisecond)
		}
		return float64(psOnCPU(c, pid)-p0) / float64(threadsOnCPU(pid)-c0)
	}
	all, stop := running(t, Options{Mode: ModeEBPF, Include: regexp.MustCompile("^pscope-test-target$"),
		CostBudget: -1})
	seen(t, all, pid)
	time.Sleep(time.Second)
	want := measure(all)
	stop()

	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.CostBudget, o.Windows = -1, 3 })
	seen(t, c, pid)
	o := observedAs(t, c, pid)
	between := func() bool { return isLeftAlone(o) }
	waitFor(t, "a window has ended", between)
	if a := kern.ScopeActivity(atomic.LoadUint32(&o.Entry().Active)); a != kern.ScopeActivitySTOPS_ONLY {
		t.Errorf("activity %v between windows", a)
	}
	time.Sleep(50 * time.Millisecond)
	events := func() uint64 { return atomic.LoadUint64(&o.Entry().Events) }
	first, last := events(), events()
	for n := events(); between(); n = events() {
		last = n
		time.Sleep(time.Millisecond)
	}
	if last != first {
		t.Errorf("%d events were seen between two windows", last-first)
	}
	waitFor(t, "events are seen again", func() bool { return events() > last })
	waitFor(t, "the next window has ended, too", between)
	a := view(c, pid)
	got := measure(c)
	b := view(c, pid)
	t.Logf("Ps were on a CPU for %.3f of the threads' time, in windows for %.3f", want, got)
	if math.Abs(got-want) > want*0.3 {
		t.Errorf("Ps were on a CPU for %.3f of the threads' time, in windows for %.3f", want, got)
	}
	for i := range a.Ps {
		if b.Ps[i].Transitions == a.Ps[i].Transitions {
			t.Errorf("P%d has not changed its state", i)
		}
	}
	if b.Governor.Observed < 0.33 || b.Governor.Observed > 0.34 {
		t.Errorf("observed for %.3f of the time, want a third", b.Governor.Observed)
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if len(b.Threads) < len(tasks)-2 || len(b.Threads) > len(tasks) {
		t.Errorf("%d threads are known of %d", len(b.Threads), len(tasks))
	}
}

// Between two windows stops are told of, and a P to which nothing happens has been idle since it became so, not since
// the last look.
func TestStopsAndRestBetweenWindows(t *testing.T) {
	c, rec := collectIn(t, ModeEBPF, func(o *Options) { o.CostBudget, o.Windows = -1, 4 })
	p := start(t, "GOMAXPROCS=2")
	pid := p.cmd.Process.Pid
	seen(t, c, pid)
	o := observedAs(t, c, pid)
	between := func() bool { return isLeftAlone(o) }
	waitFor(t, "a window has ended", between)
	p.say("gc 5")
	if !between() {
		t.Log("the next window has begun already")
	}
	waitFor(t, "five collections, of two stops each, are seen", func() bool { return rec.stopsSeen() >= 10 })
	waitFor(t, "the next window has ended", func() bool { return !between() })
	waitFor(t, "of a P is known that it has been idle since before the window", func() bool {
		v := view(c, pid)
		return slices.ContainsFunc(v.Ps, func(ps pstate.PView) bool {
			return ps.State == pstate.Idle &&
				v.At-ps.Since > int64(4*time.Second)
		})
	})
	shares(t, c, pid, 2*time.Second)
}

// What it costs in windows is kept within a budget that all the time would pass, and when there is room again, all is
// observed.
func TestGovernorOpensWindows(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.CostBudget, o.CostFloor = 1, -1 })
	p := start(t, "GOMAXPROCS=2")
	pid := p.cmd.Process.Pid
	seen(t, c, pid)
	o := observedAs(t, c, pid)
	p.say("chatter 50")
	time.Sleep(6 * time.Second) // samples that come more often at first are over
	cost, began := o.ProbeCost(), threadsOnCPU(pid)
	time.Sleep(2 * time.Second)
	full := float64(o.ProbeCost()-cost) / float64(threadsOnCPU(pid)-began)
	o.Inspect(func(in target.Inside) { in.Governor().Budget = full / 3 })
	level := func() pstate.Governor { return view(c, pid).Governor }
	waitFor(t, "windows are all that is observed", func() bool { return level().Level == int(govern.DutyCycle) })
	waitFor(t, "one second in about four is observed", func() bool { r := level().Observed; return r < 0.4 && r > 0.1 })
	time.Sleep(3 * time.Second)
	cost, began = o.ProbeCost(), threadsOnCPU(pid)
	time.Sleep(12 * time.Second)
	if got := float64(o.ProbeCost()-cost) / float64(threadsOnCPU(pid)-began); got > full/2 || got < full/12 {
		t.Errorf("costs %.4f of its CPU time in windows, %.4f all the time, with a budget of %.4f", got, full, full/3)
	}
	if g := level(); g.Level != int(govern.DutyCycle) {
		t.Errorf("level %d", g.Level)
	}
	o.Inspect(func(in target.Inside) {
		in.Governor().Budget = full * 10
		in.Governor().NoPatience()
	})
	waitFor(t, "nothing is left out any more", func() bool { return level().Level == int(govern.Everything) })
	if g := level(); g.Observed != 1 {
		t.Errorf("observed for %v of the time, want all", g.Observed)
	}
	if a := kern.ScopeActivity(atomic.LoadUint32(&o.Entry().Active)); a != kern.ScopeActivityOBSERVED {
		t.Errorf("activity %v", a)
	}
}

// isLeftAlone says whether the target is between two observed seconds.
func isLeftAlone(o *target.Target) (off bool) {
	o.Inspect(func(in target.Inside) { off = in.LeftAlone() })
	return off
}

// stopsSeen is how many stops came.
func (r *record) stopsSeen() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.stops)
}
