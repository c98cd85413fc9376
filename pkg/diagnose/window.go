package diagnose

import (
	"cmp"
	"slices"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// Window is what a target did between two moments.
type Window struct {
	Target     pstate.Target
	GOMAXPROCS int32
	Start, End int64 // Unix nanoseconds: the range really covered
	Ps         []PWindow
	Threads    []ThreadWindow // those that were blocked longest first
	Stops      []pstate.Stop
	QuotaKnown bool          // whether a CPU quota holds for it, at the end of the window
	Quotas     []QuotaWindow // of the process's control group and those above it
	// What suspended threads in the window; zero if nothing was seen to.
	StoppedBy, FrozenBy pstate.Suspension
}

// QuotaWindow is what a CPU quota did in a window.
type QuotaWindow struct {
	Path                      string // of the group that sets it
	Cores                     float64
	Periods, ThrottledPeriods uint64
	Throttled                 time.Duration // summed over CPUs
}

// Duration of the window.
func (w *Window) Duration() time.Duration { return time.Duration(w.End - w.Start) }

// PWindow is what one P did in a window. Shares are of the time in which the P was observed, 0 to 1.
type PWindow struct {
	P      int32
	State  [pstate.NumStates]float64
	Thread [pstate.NumThreadStates]float64
	// Busy is the share in which the P had work in hand, in running, gc and syscall, and its thread was neither stopped
	// nor frozen.
	Busy            float64
	Uninterruptible float64 // the D share
	// Stuck is the share in which a thread in uninterruptible sleep held the P: nothing else could run on it. In the
	// rest of the D share the P's last thread slept, and the P was free.
	Stuck          float64
	WakeWait       float64 // handed to a thread that had not run yet
	Stopped        float64
	Queue          float64 // mean depth of the run queue; see QueueKnown
	QueueKnown     bool
	QueueIdle      float64 // share of the looks in which goroutines were queued on it while another P was idle
	QueueIdleDepth float64 // mean depth in those
	Looks          uint64  // at the run queue
}

func ratio(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// Suspended is the share in which its thread was stopped or frozen.
func (p *PWindow) Suspended() float64 { return p.Thread[pstate.Stopped] + p.Thread[pstate.Frozen] }

// ThreadWindow is where one thread spent a window.
type ThreadWindow struct {
	pstate.ThreadView
	In [pstate.NumThreadStates]time.Duration // within the window
	// WithoutP says that it carries no P at the end of the window. Of a window that ended in the past that is not
	// known, and it is false.
	WithoutP bool
	AtEnd    bool // State is that at the end of the window
}

// Blocked is the time in which the thread could not go on though it was not resting: in uninterruptible sleep, stopped,
// frozen, or waiting for a CPU. Ordinary sleep is left out: the threads of idle Ps sleep all the time, and nothing
// waits for them.
func (t *ThreadWindow) Blocked() time.Duration { return blocked(&t.In) }

func blocked(in *[pstate.NumThreadStates]time.Duration) time.Duration {
	return in[pstate.Uninterruptible] + in[pstate.Stopped] + in[pstate.Frozen] + in[pstate.Runnable]
}

func window(v *pstate.TargetView, from, to *point) Window {
	w := Window{Target: v.Target, GOMAXPROCS: v.GOMAXPROCS, Start: from.at, End: to.at}
	for i := range to.ps {
		t := &to.ps[i]
		f := pTotals{p: t.p}
		if j := slices.IndexFunc(from.ps, func(x pTotals) bool { return x.p == t.p }); j >= 0 {
			f = from.ps[j]
		}
		var whole time.Duration
		for s := range t.state {
			whole += t.state[s] - f.state[s]
		}
		if whole <= 0 {
			continue
		}
		share := func(d time.Duration) float64 { return min(1, max(0, float64(d)/float64(whole))) }
		p := PWindow{P: t.p}
		for s := range t.state {
			p.State[s] = share(t.state[s] - f.state[s])
		}
		for s := range t.thread {
			p.Thread[s] = share(t.thread[s] - f.thread[s])
		}
		p.Busy = share(t.busy - f.busy)
		p.Uninterruptible = share(t.uninterruptible - f.uninterruptible)
		p.Stuck = share(t.stuck - f.stuck)
		p.WakeWait = share(t.wakeWait - f.wakeWait)
		p.Stopped = share(t.stopTime - f.stopTime)
		if looks := t.runqSeen - f.runqSeen; t.runqSeen > f.runqSeen {
			p.Queue, p.QueueKnown, p.Looks = ratio(t.runqSum-f.runqSum, looks), true, looks
			both := t.runqIdle - f.runqIdle
			p.QueueIdle, p.QueueIdleDepth = ratio(both, looks), ratio(t.runqIdleSum-f.runqIdleSum, both)
		}
		w.Ps = append(w.Ps, p)
	}
	w.QuotaKnown = v.Cgroup != nil && v.Cgroup.Unreadable["cpu"] == ""
	w.Quotas = quotas(from.limits, to.limits)
	if to.stoppedBy.At >= from.at {
		w.StoppedBy = to.stoppedBy
	}
	if to.frozenBy.At >= from.at {
		w.FrozenBy = to.frozenBy
	}
	for i := range v.Threads {
		th := ThreadWindow{ThreadView: v.Threads[i], In: v.Threads[i].Time}
		if j := slices.IndexFunc(to.threads, func(x threadTotals) bool { return x.tid == th.TID }); j >= 0 {
			th.In = to.threads[j].time
		}
		if j := slices.IndexFunc(from.threads, func(x threadTotals) bool { return x.tid == th.TID }); j >= 0 {
			for s := range th.In {
				th.In[s] = max(0, th.In[s]-from.threads[j].time[s])
			}
		}
		var sum time.Duration
		for s, d := range th.In {
			// A thread that was not remembered when the window began has its whole life in In: no more than the window
			// of it counts.
			th.In[s] = min(d, w.Duration())
			sum += th.In[s]
		}
		th.AtEnd = to.at == v.At
		th.WithoutP = th.AtEnd && !carriesP(v, th.TID)
		if sum > 0 {
			w.Threads = append(w.Threads, th)
		}
	}
	slices.SortStableFunc(w.Threads, func(a, b ThreadWindow) int {
		return cmp.Or(cmp.Compare(b.Blocked(), a.Blocked()), cmp.Compare(b.In[pstate.Sleeping], a.In[pstate.Sleeping]),
			cmp.Compare(a.TID, b.TID))
	})
	return w
}

// quotas gives what each quota did between two moments. One that was not there at the first is left out: what it counts
// may be older.
func quotas(from, to []pstate.CPULimit) (out []QuotaWindow) {
	for _, l := range to {
		i := slices.IndexFunc(from, func(f pstate.CPULimit) bool { return f.Path == l.Path })
		if i < 0 || l.Periods < from[i].Periods {
			continue // or its group was made anew
		}
		f := &from[i]
		out = append(out, QuotaWindow{Path: l.Path, Cores: l.Cores, Periods: l.Periods - f.Periods,
			ThrottledPeriods: l.ThrottledPeriods - min(f.ThrottledPeriods, l.ThrottledPeriods), Throttled: max(0,
				l.Throttled-f.Throttled)})
	}
	return out
}

// carriesP says whether a thread carries a P.
func carriesP(v *pstate.TargetView, tid int32) bool {
	return slices.ContainsFunc(v.Ps, func(p pstate.PView) bool { return p.TID == tid })
}

// longestBlocked gives the n threads that were blocked longest, without touching the order of the views.
func longestBlocked(ths []pstate.ThreadView, n int) []pstate.ThreadView {
	if len(ths) <= n {
		return ths
	}
	ths = slices.Clone(ths)
	slices.SortFunc(ths, func(a, b pstate.ThreadView) int { return cmp.Compare(blocked(&b.Time), blocked(&a.Time)) })
	return ths[:n]
}

// BlockedThread is a thread of a target.
type BlockedThread struct {
	Target pstate.Target
	ThreadWindow
}

// TopBlocked gives the n threads of all windows that were blocked longest; of two equal ones, the one that slept
// longer.
func TopBlocked(ws []Window, n int) []BlockedThread {
	var all []BlockedThread
	for i := range ws {
		for _, th := range ws[i].Threads {
			all = append(all, BlockedThread{Target: ws[i].Target, ThreadWindow: th})
		}
	}
	slices.SortStableFunc(all, func(a, b BlockedThread) int {
		return cmp.Or(cmp.Compare(b.Blocked(), a.Blocked()), cmp.Compare(b.In[pstate.Sleeping], a.In[pstate.Sleeping]))
	})
	return all[:min(n, len(all))]
}
