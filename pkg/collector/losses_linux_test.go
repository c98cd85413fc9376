package collector

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// These tests lose things on purpose and count them.

// seenAs gives the collector's own record of a process.
func seenAs(t *testing.T, c Collector, pid int) (*collect, *target.Target) {
	t.Helper()
	seen(t, c, pid)
	all := c.(*collect)
	for _, o := range all.all() {
		if o.PID() == int32(pid) {
			return all, o
		}
	}
	t.Fatal("the target is not observed")
	return nil, nil
}

// balance stops the kernel side of a target, reads the ring empty, and demands that every interval and stop that came
// to be was either received or counted.
func balance(t *testing.T, c *collect, o *target.Target) (made, received, full, budget uint64) {
	t.Helper()
	atomic.StoreUint32(&o.Entry().Active, 0)
	time.Sleep(20 * time.Millisecond) // a program that was running on another CPU has ended by then
	c.drain()
	o.Inspect(func(in target.Inside) {
		received = in.Received()
		budget = in.LostInKernel(kern.ScopeLostReasonLOST_INTERVAL_BUDGET)
	})
	sent := atomic.LoadUint64(&o.Entry().Sent)
	full = atomic.LoadUint64(&o.Entry().Lost[kern.ScopeLostReasonLOST_RING_FULL])
	made = sent + full + budget
	if sent == 0 || received != sent {
		t.Errorf("%d intervals and stops were put into the ring, %d were received; %d did not fit and %d were over "+
			"the budget", sent, received, full, budget)
	}
	if n := c.orphans.Load(); n != 0 {
		t.Errorf("%d events found no target", n)
	}
	return made, received, full, budget
}

// covered demands that the intervals of every P follow one another without a gap and that, by state, they are as long
// as the totals; and it counts those that stand in for lost ones.
func covered(t *testing.T, rec *record, key pstate.Key, o *target.Target) (merged int) {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	byP := map[int32][]pstate.Interval{}
	for _, iv := range rec.intervals[key] {
		byP[iv.P] = append(byP[iv.P], iv)
		if iv.Merged {
			merged++
		}
	}
	o.Inspect(func(in target.Inside) {
		for id, p := range in.Records() {
			ivs := byP[int32(id)]
			if len(ivs) == 0 {
				t.Errorf("P%d has no interval", int32(id))
				continue
			}
			var told ledger.Matrix
			for i, iv := range ivs {
				if i > 0 && iv.Start != ivs[i-1].End {
					t.Fatalf("P%d: %+v after %+v", int32(id), iv, ivs[i-1])
				}
				told[ledger.Cell(iv.State, iv.Thread)] += uint64(iv.End - iv.Start)
			}
			raw, _ := ledger.Read(p)
			span := float64(ivs[len(ivs)-1].End - ivs[0].Start)
			for i, ns := range told {
				// What is still open at either end is not in both; where intervals are missing their kinds are told in
				// proportion.
				if off := float64(ns) - float64(raw.Time[i]<<ledger.TickShift); off > span*0.02+
					float64(50*time.Millisecond) || -off > span*0.02+float64(1200*time.Millisecond) {
					t.Errorf("P%d: %v in state %d of thread state %d by intervals, %v by the totals", int32(id),
						time.Duration(ns), i/pstate.NumThreadStates,
						i%pstate.NumThreadStates, time.Duration(raw.Time[i]<<ledger.TickShift))
				}
			}
		}
	})
	return merged
}

// More Ps than CPUs are busy, so that they change all the time.
func crowded(t *testing.T, c Collector) (*collect, *target.Target, *child) {
	t.Helper()
	n := runtime.NumCPU() + 2
	p := start(t, fmt.Sprintf("GOMAXPROCS=%d", n))
	all, o := seenAs(t, c, p.cmd.Process.Pid)
	p.say("busy %d", n)
	p.say("chatter 16")
	return all, o, p
}

func TestEveryIntervalArrives(t *testing.T) {
	c, rec := collectIn(t, ModeEBPF, func(o *Options) { o.IntervalBudget = 10_000_000 })
	all, o, p := crowded(t, c)
	p.say("gc 20")
	time.Sleep(time.Second)
	made, _, full, budget := balance(t, all, o)
	if full != 0 || budget != 0 {
		t.Errorf("%d did not fit, %d were over a budget that can't be used up", full, budget)
	}
	time.Sleep(200 * time.Millisecond)
	merged := covered(t, rec, o.Key(), o)
	var late uint64
	o.Inspect(func(in target.Inside) { late = in.Lost("late_interval") })
	t.Logf("%d made, %d merged, %d late", made, merged, late)
	if merged > int(made)/100 {
		t.Errorf("%d of %d intervals are stand-ins, though none was lost", merged, made)
	}
}

func TestIntervalsOverTheBudgetAreCounted(t *testing.T) {
	c, rec := collectIn(t, ModeEBPF, func(o *Options) { o.IntervalBudget = 40 })
	all, o, _ := crowded(t, c)
	time.Sleep(1500 * time.Millisecond)
	made, received, _, budget := balance(t, all, o)
	if budget == 0 {
		t.Errorf("none of %d was over a budget of 40 a second", made)
	}
	time.Sleep(200 * time.Millisecond)
	if merged := covered(t, rec, o.Key(), o); merged == 0 {
		t.Errorf("%d intervals were lost and nothing stands in for them", budget)
	} else {
		t.Logf("%d made, %d received, %d merged", made, received, merged)
	}
}

// The smallest ring there can be, and a reader that is held back.
func TestIntervalsThatDoNotFitAreCounted(t *testing.T) {
	c, rec := collectIn(t, ModeEBPF, func(o *Options) { o.IntervalBudget, o.RingBytes = 10_000_000, os.Getpagesize() })
	all, o, p := crowded(t, c)
	for range 5 {
		all.drainMu.Lock()
		p.say("gc 5") // stops are lost as well
		time.Sleep(150 * time.Millisecond)
		all.drainMu.Unlock()
		time.Sleep(100 * time.Millisecond)
	}
	made, received, full, _ := balance(t, all, o)
	if full == 0 {
		t.Errorf("%d events fitted into a ring of one page that was not read", made)
	}
	v := view(c, p.cmd.Process.Pid)
	if v == nil || v.Lost["ring_full"] != full {
		t.Errorf("%d losses are shown as %v", full, v)
	}
	time.Sleep(200 * time.Millisecond)
	if merged := covered(t, rec, o.Key(), o); merged == 0 {
		t.Errorf("%d events were lost and nothing stands in for them", full)
	} else {
		t.Logf("%d made, %d received, %d merged", made, received, merged)
	}
}

// A table of threads that is smaller than the target's number of threads.
func TestThreadsThatDoNotFitAreCounted(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.MaxThreads = 8 })
	p := start(t, "GOMAXPROCS=2")
	pid := p.cmd.Process.Pid
	all, o := seenAs(t, c, pid)
	room := all.kernel.Threads.Size()
	p.say("threads 40")
	p.say("busy 2")
	time.Sleep(500 * time.Millisecond)
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	tracked := 0
	all.kernel.Threads.Each(func(_ uint32, th *kern.ScopeThread) {
		if th.Target == o.Index() {
			tracked++
		}
	})
	v := view(c, pid)
	if tracked > room || len(tasks) <= room {
		t.Fatalf("%d of %d threads are in a table of %d", tracked, len(tasks), room)
	}
	if n := v.Lost["threads_full"]; n < uint64(len(tasks)-tracked) {
		t.Errorf("%d threads of %d are not in the table, %d losses are counted", len(tasks)-tracked, len(tasks), n)
	}
	// The totals stay whole, and the snapshots keep them near the truth.
	for i, s := range shares(t, c, pid, 500*time.Millisecond) {
		if s[pstate.Running] < 0.9 {
			t.Errorf("P%d spins and is running for %.2f of the time: %v", i, s[pstate.Running], s)
		}
	}
	if n := view(c, pid).Lost["threads_full"]; n < v.Lost["threads_full"] {
		t.Errorf("the count of losses fell from %d to %d", v.Lost["threads_full"], n)
	}
}

// What is said in the last moment of a process, or between two reads of the ring, is not forgotten with it.
func TestTheLastStopsOfAProcess(t *testing.T) {
	c, rec := collectIn(t, ModeEBPF, nil)
	const rounds, each = 10, 4
	want := 0
	for range rounds {
		p := start(t, "GOMAXPROCS=2")
		seen(t, c, p.cmd.Process.Pid)
		key := view(c, p.cmd.Process.Pid).Key
		fmt.Fprintf(p.in, "gc %d\nexit\n", each)
		p.in.Flush()
		_ = p.cmd.Wait()
		want += each
		waitFor(t, "the end is told", func() bool { rec.mu.Lock(); defer rec.mu.Unlock(); return rec.ended[key] != 0 })
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	got := 0
	for _, s := range rec.stops {
		if s.Reason == "GC mark termination" {
			got++
		}
	}
	if got != want {
		t.Errorf("%d of %d collections were seen of processes that ended right after", got, want)
	}
	if n := c.(*collect).orphans.Load(); n != 0 {
		t.Errorf("%d events found no target", n)
	}
}
