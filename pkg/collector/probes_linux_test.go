package collector

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// What a kernel may answer when a way is tried.
type answer struct {
	all bool
	err error
}

func TestWayOfProbes(t *testing.T) {
	works, firstThreadOnly := answer{all: true}, answer{}
	old, denied := answer{err: fmt.Errorf("link: %w", unix.EINVAL)}, answer{err: fmt.Errorf("open the event: %w", unix.EACCES)}
	for _, c := range []struct {
		name                string
		multi, perf, shared answer
		way                 probeWay
		why, fix            string
	}{
		{"6.10 and later", works, works, works, multiProbes, "", ""},
		{"the same, four capabilities", works, denied, works, multiProbes, "", ""},
		{"6.6 to 6.9, root", firstThreadOnly, works, works, perfProbes, "", ""},
		{"6.6 to 6.9, four capabilities", firstThreadOnly, denied, works, sharedProbes, "", ""},
		{"6.1, root", old, works, old, perfProbes, "", ""},
		{"6.1, four capabilities", old, denied, old, noProbes, "CAP_SYS_ADMIN", "CAP_SYS_ADMIN"},
		{"no uprobes", old, answer{err: ebpf.ErrNotSupported}, old, noProbes, "neither", "CONFIG_UPROBES"},
		{"not permitted", answer{err: unix.EPERM}, denied, answer{err: unix.EPERM}, noProbes, "not permitted", "cap_bpf"},
		{"programs do not run", firstThreadOnly, denied, firstThreadOnly, noProbes, "does not run", ""},
	} {
		way, why := findProbeWay(func(w probeWay) (bool, error) {
			a := map[probeWay]answer{multiProbes: c.multi, perfProbes: c.perf, sharedProbes: c.shared}[w]
			return a.all, a.err
		})
		if way != c.way || (why == nil) != (c.way != noProbes) {
			t.Errorf("%s: %v, %v", c.name, way, why)
			continue
		}
		if why != nil && (!strings.Contains(why.Error(), c.why) || !strings.Contains(fixFor(why), c.fix)) {
			t.Errorf("%s: %q, %q", c.name, why, fixFor(why))
		}
	}
}

// onlyWay makes the collector take this way, as on a kernel that has no better one. The kernel at hand may not permit it.
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

// Two processes run the same file. Whatever the way, each of their stops is seen once, and one goes on being seen when the other has ended.
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
