package collector

import (
	"errors"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// onlyWay makes the collector take this way, as on a kernel that has no better one. The kernel at hand may not permit
// it.
func onlyWay(t *testing.T, way probeWay) {
	t.Helper()
	all, err := tryOnItself(way)
	if why := (&noProbesError{multi: err}); errors.Is(err, fs.ErrPermission) || err != nil && way != perfProbes && why.kernelOld() {
		t.Skipf("%v are not to be had here: %v", way, err)
	} else if err != nil || !all {
		t.Fatalf("%v: all threads %v, %v", way, all, err)
	}
	tryProbes = func(w probeWay) (bool, error) {
		if w == multiProbes && way == sharedProbes {
			return false, nil // it is taken to see the first thread only
		}
		if w != way {
			return false, unix.EACCES
		}
		return tryOnItself(w)
	}
	t.Cleanup(func() { tryProbes = tryOnItself })
}

// Two processes run the same file. Whatever the way, each of their stops is seen once, and one goes on being seen when
// the other has ended.
func TestStopsByEveryWayOfProbes(t *testing.T) {
	for _, way := range []probeWay{multiProbes, perfProbes, sharedProbes} {
		t.Run(way.String(), func(t *testing.T) {
			onlyWay(t, way)
			c, _ := collectIn(t, ModeEBPF, nil)
			probes := &c.(*collect).kernel.probes
			if probes.way != way {
				t.Fatalf("it took %v: %v", probes.way, probes.why)
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
			waitFor(t, "no shared probe is left", func() bool { probes.mu.Lock(); defer probes.mu.Unlock(); return len(probes.shared) == 0 })
		})
	}
}
