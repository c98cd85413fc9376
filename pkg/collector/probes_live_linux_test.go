package collector

import (
	"testing"

	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// onlyWay makes the collector take this way, as on a kernel that has no better one. The kernel at hand may not permit
// it.
func onlyWay(t *testing.T, way kernel.ProbeWay) {
	t.Helper()
	undo, ok, err := kernel.ForceProbeWay(way)
	if !ok {
		t.Skipf("%v are not to be had here: %v", way, err)
	} else if err != nil {
		t.Fatalf("%v: %v", way, err)
	}
	t.Cleanup(undo)
}

// Two processes run the same file. Whatever the way, each of their stops is seen once, and one goes on being seen when
// the other has ended.
func TestStopsByEveryWayOfProbes(t *testing.T) {
	for _, way := range []kernel.ProbeWay{kernel.MultiProbes, kernel.PerfProbes, kernel.SharedProbes} {
		t.Run(way.String(), func(t *testing.T) {
			onlyWay(t, way)
			c, _ := collectIn(t, ModeEBPF, nil)
			probes := &c.(*collect).kernel.Probes
			if took := probes.Way(); took != way {
				t.Fatalf("it took %v: %v", took, c.(*collect).kernel.WhyNoProbes())
			}
			collections := func(pid int) uint64 {
				v := view(c, pid)
				if v == nil || v.Reason != "" {
					t.Fatalf("process %d is observed as %+v, and said is %q", pid, v, targetOf(c, pid).Reason)
				}
				return v.StopHist["GC mark termination"].Count
			}
			a, b := start(t, "GOMAXPROCS=2"), start(t, "GOMAXPROCS=2")
			pids := []int{a.cmd.Process.Pid, b.cmd.Process.Pid}
			for _, pid := range pids {
				seen(t, c, pid)
				if source := view(c, pid).Source; source != pstate.SourceEBPF {
					t.Fatalf("process %d is observed by %q", pid, source)
				}
			}
			want := []uint64{collections(pids[0]) + 7, collections(pids[1]) + 3}
			a.say("gc 7")
			b.say("gc 3")
			for i, pid := range pids {
				waitFor(t, "all stops are told", func() bool { return collections(pid) >= want[i] })
				if n := collections(pid); n != want[i] {
					t.Errorf("process %d: %d collections more than there were", pid, n-want[i])
				}
			}
			_ = a.cmd.Process.Kill()
			waitFor(t, "the first has ended", func() bool { return view(c, pids[0]) == nil })
			b.say("gc 5")
			waitFor(t, "the other's stops are told", func() bool { return collections(pids[1]) >= want[1]+5 })
			if n := collections(pids[1]); n != want[1]+5 {
				t.Errorf("%d collections more than there were", n-want[1]-5)
			}
			_ = b.cmd.Process.Kill()
			waitFor(t, "no shared probe is left", func() bool { return probes.SharedSites() == 0 })
		})
	}
}
