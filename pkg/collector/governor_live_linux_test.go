package collector

import (
	"slices"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/govern"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// With a budget that nothing can keep, all but snapshots is left out of a real target, step by step; with one that
// everything keeps, it all comes back. Whatever is left out, the seconds of all states are wall time.
func TestGovernorOnARealTarget(t *testing.T) {
	child := start(t)
	child.say("busy 2")
	pid := child.cmd.Process.Pid
	c, rec := collectIn(t, ModeEBPF, func(o *Options) { o.CostBudget, o.CostFloor = 1e-9, -1 })
	seen(t, c, pid)
	level := func() int {
		if v := view(c, pid); v != nil && v.Governor.Governed {
			return v.Governor.Level
		}
		return -1
	}
	waitFor(t, "stops are left out", func() bool { return level() >= int(govern.NoStops) })
	waitFor(t, "nothing but snapshots is left", func() bool { return level() == int(govern.OnlySnapshots) })
	v := view(c, pid)
	if v.Source != pstate.SourceSnapshot || v.Reason == "" {
		t.Errorf("observed by %q, because %q", v.Source, v.Reason)
	}
	if s := shares(t, c, pid, time.Second); s[0][pstate.Running]+s[0][pstate.Syscall]+s[0][pstate.Idle] < 0.5 {
		t.Errorf("shares by snapshots: %v", s[0])
	}
	stops := len(v.StopHist)
	child.say("gc 3")

	all := c.(*collect).all()
	i := slices.IndexFunc(all, func(o *target.Target) bool { return o.PID() == int32(pid) })
	if i < 0 {
		t.Fatal("the target is not observed")
	}
	o := all[i]
	o.Inspect(func(in target.Inside) {
		in.Governor().Budget = 1e9
		in.Governor().NoPatience()
	})
	waitFor(t, "nothing is left out any more", func() bool { return level() == int(govern.Everything) })
	v = view(c, pid)
	if v.Source != pstate.SourceEBPF || v.Reason != "" {
		t.Errorf("observed by %q, because %q", v.Source, v.Reason)
	}
	if len(v.StopHist) != stops {
		t.Errorf("stops were seen while they were left out: %v", v.StopHist)
	}
	waitFor(t, "stops are seen again", func() bool { child.say("gc 1"); return len(view(c, pid).StopHist) > 0 })
	waitFor(t, "events are counted again", func() bool { return view(c, pid).ProbeTime["0+1"] > v.ProbeTime["0+1"] })
	shares(t, c, pid, time.Second)
	child.say("idle")
	waitFor(t, "the Ps are idle", func() bool {
		for _, p := range view(c, pid).Ps {
			if p.State != pstate.Idle {
				return false
			}
		}
		return true
	})
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for key, ivs := range rec.intervals {
		last := map[int32]int64{}
		for _, iv := range ivs {
			if iv.Start < last[iv.P] {
				t.Fatalf("%v: intervals of P%d overlap", key, iv.P)
			}
			last[iv.P] = iv.End
		}
	}
}
