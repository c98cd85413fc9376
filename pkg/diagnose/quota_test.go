package diagnose

import (
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

func inThread(s pstate.ThreadState, share float64) func(*PWindow) {
	return func(w *PWindow) {
		w.Thread[s] = share
		w.Busy -= share
	}
}

func suspendedThread(s pstate.ThreadState, since int64) ThreadWindow {
	th := ThreadWindow{AtEnd: true, WithoutP: true}
	th.State, th.Since = s, since
	return th
}

func TestFindQuotaAndSuspension(t *testing.T) {
	throttled := func(cores float64, periods, of uint64, d time.Duration) []QuotaWindow {
		return []QuotaWindow{{Path: "/pod", Cores: cores, Periods: of, ThrottledPeriods: periods, Throttled: d}}
	}
	for name, c := range map[string]struct {
		w      Window
		want   string
		says   []string // in evidence and advice of all
		silent []string
	}{
		"throttled, old Go": {
			w: Window{Ps: []PWindow{p(0, .9, runnable(.6)), p(1, .9, runnable(.5))}, GOMAXPROCS: 8,
				Quotas: throttled(1.5, 500, 600, 60*time.Second), Target: pstate.Target{GoVersion: "go1.24.3"}},
			want: "quota/critical",
			says: []string{"/pod, 1.5 cores, was used up in 83.3 % of 600 periods", "1m0s, summed over CPUs",
				"P0 had a thread ready but no CPU for 60 %", "GOMAXPROCS is 8",
				"Go before 1.25", "set GOMAXPROCS to 2"},
			silent: []string{"other busy processes"},
		},
		"throttled, new Go": {
			w: Window{Ps: []PWindow{p(0, .9, runnable(.2))}, GOMAXPROCS: 8,
				Quotas: throttled(4, 500, 600, 30*time.Second),
				Target: pstate.Target{GoVersion: "go1.26.8"}},
			want: "quota/warning",
			says: []string{"Go 1.25 and later take it", "set 4"},
		},
		"GOMAXPROCS fits": {
			w: Window{Ps: []PWindow{p(0, .9, runnable(.5)), p(1, .9, runnable(.5))}, GOMAXPROCS: 2,
				Quotas: throttled(1.2, 500, 600, 60*time.Second)},
			want: "quota/critical",
			says: []string{"fits the quota"},
		},
		"the tightest is not the one that throttles": {
			w: Window{Ps: []PWindow{p(0, .9, runnable(.5))}, GOMAXPROCS: 2,
				Quotas: []QuotaWindow{{Path: "/a/b", Cores: 1, Periods: 600},
					{Path: "/a", Cores: 4, Periods: 600, ThrottledPeriods: 300, Throttled: 30 * time.Second}}},
			want: "quota/critical",
			says: []string{"/a, 4 cores"},
		},
		// What only looks like it.
		"a quota that is not used up beside a full host": {
			w:    Window{Ps: []PWindow{p(0, .9, runnable(.5))}, GOMAXPROCS: 2, Quotas: throttled(2, 0, 600, 0)},
			want: "cpu_wait/critical",
			says: []string{"no CPU quota throttled it", "other busy processes"},
		},
		"a quota that is used up now and then beside a full host": {
			w: Window{Ps: []PWindow{p(0, .9, runnable(.5))}, GOMAXPROCS: 2,
				Quotas: throttled(2, 40, 600, time.Second)},
			want: "cpu_wait/critical",
			says: []string{"/pod, 2 cores, was used up in 6.7 % of its periods, which does not explain it"},
		},
		"others in the group use it up, and this process rests": {w: Window{Ps: []PWindow{p(0, .01), p(1, 0)},
			Quotas: throttled(1, 600, 600, 60*time.Second)}},
		"a full host, quotas not known": {
			w: Window{Ps: []PWindow{p(0, .9, runnable(.5))}}, want: "cpu_wait/critical",
			says: []string{"CPU quota, which is not known"},
		},
		"a full host, no quota": {
			w: Window{Ps: []PWindow{p(0, .9, runnable(.5))}, QuotaKnown: true}, want: "cpu_wait/critical",
			silent: []string{"quota"},
		},
		"stopped by a signal": {
			w: Window{Ps: []PWindow{p(0, 1, inThread(pstate.Stopped, .8)), p(1, .9, inThread(pstate.Stopped, .8))},
				StoppedBy: pstate.Suspension{By: pstate.SuspendedBySignal},
				Target:    pstate.Target{Key: pstate.Key{PID: 7}}},
			want: "suspended/warning",
			says: []string{"P0 had work in hand, and its thread was stopped for 80 % of 1m0s by a signal", "one more P",
				"kill -CONT 7"},
		},
		"traced": {
			w: Window{Ps: []PWindow{p(0, 1, inThread(pstate.Stopped, 1))},
				StoppedBy: pstate.Suspension{By: pstate.SuspendedByTracer, Tracer: 9, TracerName: "gdb"}},
			want: "suspended/warning",
			says: []string{"by gdb (process 9), which traces it"},
		},
		"frozen": {
			w: Window{Ps: []PWindow{p(0, 1, inThread(pstate.Frozen, .5))},
				FrozenBy: pstate.Suspension{By: pstate.SuspendedByFreezer, Cgroup: "/a b"}},
			want: "suspended/warning",
			says: []string{"frozen for 50 % of 1m0s by the freezer of the control group /a b",
				"docker unpause"},
		},
		"frozen while idle": {
			w: Window{Ps: []PWindow{p(0, 0)}, Threads: []ThreadWindow{suspendedThread(pstate.Frozen, 20*second),
				suspendedThread(pstate.Frozen, 10*second)}},
			want: "suspended/warning",
			says: []string{"All 2 threads of the process have been frozen for 40s",
				"No P had work in hand"},
		},
		"a thread that is traced among others": {
			w: Window{Ps: []PWindow{p(0, 0)}, Threads: []ThreadWindow{suspendedThread(pstate.Stopped, 0),
				suspendedThread(pstate.Sleeping, 0)}},
		},
		"idle": {w: Window{Ps: []PWindow{p(0, 0)}, Threads: []ThreadWindow{suspendedThread(pstate.Sleeping, 0)}}},
	} {
		c.w.End = 60 * second
		var kinds, text []string
		for _, f := range Find(&c.w) {
			kinds = append(kinds, string(f.Kind)+"/"+string(f.Severity))
			text = append(text, f.Evidence, f.Advice)
			if !strings.HasSuffix(f.Evidence, ".") || !strings.HasSuffix(f.Advice, ".") {
				t.Errorf("%s: %s: no sentences: %q, %q", name, f.Kind, f.Evidence, f.Advice)
			}
		}
		if got := strings.Join(kinds, " "); got != c.want {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
		all := strings.Join(text, " ")
		for _, words := range c.says {
			if !strings.Contains(all, words) {
				t.Errorf("%s: %q does not say %q", name, all, words)
			}
		}
		for _, words := range c.silent {
			if strings.Contains(all, words) {
				t.Errorf("%s: %q says %q", name, all, words)
			}
		}
	}
}

func TestReleasesThatTakeTheQuota(t *testing.T) {
	for version, want := range map[string]bool{"go1.24.9": false, "go1.25": true, "go1.25rc1": true, "go1.27.1": true,
		"go1.9": false, "devel": false, "": false} {
		if got := takesQuota(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

// TestQuotasAreOfTheWindow: what a quota counted before the window is none of it, also for a target that is younger
// than the range.
func TestQuotasAreOfTheWindow(t *testing.T) {
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	view := func(s int, throttled uint64, more ...pstate.CPULimit) pstate.TargetView {
		v := pstate.TargetView{At: at(s).UnixNano(), Ps: []pstate.PView{{FirstSeen: start.UnixNano()}}}
		v.Ps[0].Time[pstate.Running][pstate.OnCPU] = time.Duration(s) * time.Second
		v.Cgroup = &pstate.Cgroup{
			Limits: append(
				more,
				pstate.CPULimit{Path: "/a", Cores: 1, Periods: 1000 + uint64(s)*10, ThrottledPeriods: 500 + throttled},
			),
		}
		return v
	}
	h := NewHistory(0)
	h.Add(at(10), []pstate.TargetView{view(10, 0)})
	h.Add(at(20), []pstate.TargetView{view(20, 50)})
	v := view(30, 150, pstate.CPULimit{Path: "/a/new", Periods: 9})
	for _, from := range []int{-300, 10} {
		w, ok := h.Window(&v, at(from).UnixNano(), at(30).UnixNano())
		if !ok || !w.QuotaKnown || len(w.Quotas) != 1 || w.Quotas[0].Periods != 200 ||
			w.Quotas[0].ThrottledPeriods != 150 {
			t.Errorf("from %d s: %+v", from, w.Quotas)
		}
	}
}
