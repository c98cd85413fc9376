package diagnose

import (
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// The grain and the reach of a History.
const (
	Every       = 10 * time.Second
	DefaultKeep = 90 // points: a quarter of an hour
	// maxThreads bounds the threads remembered in one point of one target: those that blocked longest.
	maxThreads = 256
)

// point is the totals of one target at one moment, in as few bytes as the findings need.
type point struct {
	at      int64
	ps      []pTotals
	threads []threadTotals
	limits  []pstate.CPULimit
	// What last suspended it.
	stoppedBy, frozenBy pstate.Suspension
}

type pTotals struct {
	p               int32
	state           [pstate.NumStates]time.Duration
	thread          [pstate.NumThreadStates]time.Duration
	busy            time.Duration
	uninterruptible time.Duration
	stopTime        time.Duration
	wakeWait        time.Duration
	stuck           time.Duration // held by a thread in uninterruptible sleep
	runqSeen        uint64        // looks at the run queue
	runqSum         uint64        // goroutines seen in all looks
	runqIdle        uint64        // looks with goroutines queued while another P was idle
	runqIdleSum     uint64        // goroutines seen in those
	firstSeen       int64
}

type threadTotals struct {
	tid  int32
	time [pstate.NumThreadStates]time.Duration
}

// History remembers totals of every target every ten seconds. Its methods may be called concurrently.
type History struct {
	keep int

	mu      sync.Mutex
	last    int64
	targets map[pstate.Key][]point // oldest first
}

// NewHistory keeps the given number of points per target; 0: DefaultKeep.
func NewHistory(keep int) *History {
	if keep <= 0 {
		keep = DefaultKeep
	}
	return &History{keep: keep, targets: make(map[pstate.Key][]point)}
}

// Due says whether the next point should be added.
func (h *History) Due(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.UnixNano()-h.last >= int64(Every)-int64(100*time.Millisecond)
}

// Add remembers the views as one point. Targets that are not in them any more are forgotten.
func (h *History) Add(now time.Time, views []pstate.TargetView) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = now.UnixNano()
	next := make(map[pstate.Key][]point, len(views))
	for i := range views {
		v := &views[i]
		ps := append(h.targets[v.Key], pointOf(v))
		if len(ps) > h.keep {
			ps = append([]point(nil), ps[len(ps)-h.keep:]...)
		}
		next[v.Key] = ps
	}
	h.targets = next
}

// Window gives the target's totals over the range, as near as points allow: it begins at the newest point not after
// start, or at the oldest there is, or, where there is none, when the target was first seen; and it ends at the oldest
// point not before end, or now, at the view. ok is false when the target has no history in the range.
func (h *History) Window(v *pstate.TargetView, start, end int64) (w Window, ok bool) {
	h.mu.Lock()
	points := h.targets[v.Key]
	h.mu.Unlock()
	to := pointOf(v)
	from := zeroPoint(&to)
	for i := len(points) - 1; i >= 0 && points[i].at >= end; i-- {
		to = points[i]
	}
	if len(points) > 0 && points[0].at > start && from.at < start-int64(Every) {
		from = points[0] // what lay before it has been forgotten
	}
	for i := range points {
		if points[i].at <= start {
			from = points[i]
		}
	}
	if from.at >= to.at || from.at >= end {
		return Window{}, false
	}
	// Of quotas no total is zero when a target is first seen: what they count begins with the first look.
	for i := 0; from.limits == nil && i < len(points); i++ {
		if points[i].at >= from.at && points[i].at < to.at {
			from.limits = points[i].limits
		}
	}
	return window(v, &from, &to), true
}

// zeroPoint is the moment at which the target was first seen: all totals were zero.
func zeroPoint(p *point) point {
	z := point{ps: make([]pTotals, len(p.ps))}
	for i := range p.ps {
		z.ps[i] = pTotals{p: p.ps[i].p, firstSeen: p.ps[i].firstSeen}
		if first := p.ps[i].firstSeen; z.at == 0 || first < z.at {
			z.at = first
		}
	}
	return z
}

func pointOf(v *pstate.TargetView) point {
	pt := point{at: v.At, ps: make([]pTotals, len(v.Ps)), stoppedBy: v.StoppedBy, frozenBy: v.FrozenBy}
	if v.Cgroup != nil {
		pt.limits = v.Cgroup.Limits
	}
	for i := range v.Ps {
		p := &v.Ps[i]
		t := pTotals{p: p.P, busy: p.BusyTime(), uninterruptible: p.Uninterruptible, stopTime: p.StopTime,
			wakeWait: p.WakeWait.Sum, firstSeen: p.FirstSeen}
		for s := range pstate.State(pstate.NumStates) {
			t.state[s] = p.StateTime(s)
		}
		for s := range pstate.ThreadState(pstate.NumThreadStates) {
			t.thread[s] = p.ThreadTime(s)
		}
		for _, s := range []pstate.State{pstate.Running, pstate.GC, pstate.Syscall} {
			t.stuck += p.Time[s][pstate.Uninterruptible]
		}
		for _, n := range p.RunqHist {
			t.runqSeen += n
		}
		t.runqSum, t.runqIdle, t.runqIdleSum = p.RunqSum, p.RunqIdle, p.RunqIdleSum
		pt.ps[i] = t
	}
	for _, th := range longestBlocked(v.Threads, maxThreads) {
		pt.threads = append(pt.threads, threadTotals{tid: th.TID, time: th.Time})
	}
	return pt
}
