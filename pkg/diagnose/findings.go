package diagnose

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// Kind of a finding.
type Kind string

// The kinds.
const (
	Imbalance       Kind = "imbalance"
	Overloaded      Kind = "overloaded"
	Idle            Kind = "idle"
	Uninterruptible Kind = "uninterruptible"
	CPUWait         Kind = "cpu_wait"
	Quota           Kind = "quota"
	Suspended       Kind = "suspended"
	Stops           Kind = "stops"
)

// Severity of a finding.
type Severity string

// The severities.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Finding is one thing worth knowing about a target.
type Finding struct {
	Kind     Kind
	Severity Severity
	Ps       []int32 // empty: the whole process
	Evidence string  // a sentence with the numbers
	Advice   string  // what to do
	// Value is the number behind the evidence: a share of 1 for imbalance (busiest minus idlest P), idle,
	// uninterruptible, cpu_wait, suspended and stops, of the quota's periods for quota; goroutines for overloaded.
	Value float64
}

// DShareCritical is the D share of a P from which on somebody should be woken: a finding is critical, and the alert
// rule fires.
const DShareCritical = 0.95

// Thresholds from which on a finding is made. They are chosen so that a healthy process has none.
const (
	minWindow = time.Second // below it, shares say little

	imbalanceSpread = 0.5 // busiest minus idlest P
	overloadedBusy  = 0.8
	overloadedQueue = 1.0
	overloadedBad   = 16.0
	idleShare       = 0.2 // of looks at the queues
	dNotable        = 0.05
	dWarning        = 0.2
	waitWarning     = 0.1
	waitCritical    = 0.3
	stopWarning     = 0.01
	stopCritical    = 0.05
	stopLong        = 10 * time.Millisecond
)

// Find gives what is worth knowing about the window, the gravest first.
func Find(w *Window) []Finding {
	if w.Duration() < minWindow {
		return nil
	}
	alive := slices.DeleteFunc(slices.Clone(w.Ps), func(p PWindow) bool { return p.State[pstate.Dead] > 0.5 })
	if len(alive) == 0 {
		return nil
	}
	var fs []Finding
	for _, rule := range []func(*Window, []PWindow) (Finding, bool){suspended, uninterruptible, overloaded, idle, quota,
		cpuWait, stops, imbalance} {
		if f, ok := rule(w, alive); ok {
			fs = append(fs, f)
		}
	}
	slices.SortStableFunc(fs, func(a, b Finding) int { return cmp.Compare(rank(b.Severity), rank(a.Severity)) })
	return fs
}

func rank(s Severity) int { return slices.Index([]Severity{Info, Warning, Critical}, s) }

// likeShare is the part of the worst P's share from which on another is said to be like it.
const likeShare = 0.5

func uninterruptible(w *Window, ps []PWindow) (Finding, bool) {
	const look = "Look for page faults on slow storage, swap, NFS or FUSE (a memory-mapped file, memory " +
		"pressure) and " +
		"for blocking disk calls: " +
		"the top blocked threads name the thread; cat /proc/<pid>/task/<tid>/stack as root names the kernel function."
	without := threadsWithoutP(w)
	held := where(ps, func(p PWindow) bool { return p.Stuck >= dNotable })
	if len(held) == 0 {
		if len(without) == 0 {
			return Finding{}, false
		}
		// No P is held up: the share of the Ps' time is none.
		f := Finding{Kind: Uninterruptible, Severity: Info, Advice: look, Evidence: fmt.Sprintf(
			"%s in uninterruptible sleep without a P at the end of the range, the longest for %s. They hold up no P.",
			threads(len(without)), short(time.Duration(w.End-without[0].Since)))}
		if len(without) >= manyThreads {
			f.Severity = Warning
		}
		return f, true
	}
	worst := most(held, func(p PWindow) float64 { return p.Stuck })
	like := where(held, func(p PWindow) bool { return p.Stuck >= likeShare*worst.Stuck })
	f := Finding{Kind: Uninterruptible, Severity: Info, Ps: indexes(held), Value: worst.Stuck, Advice: look,
		Evidence: fmt.Sprintf("P%d was held by a thread in uninterruptible sleep for %s of %s%s.", worst.P,
			percent(worst.Stuck), span(w), others(len(like)))}
	if len(without) > 0 {
		f.Evidence += fmt.Sprintf(" %s in uninterruptible sleep without a P at its end.", threads(len(without)))
	}
	switch {
	case worst.Stuck >= DShareCritical:
		f.Severity = Critical
	case worst.Stuck >= dWarning:
		f.Severity = Warning
	}
	return f, true
}

// manyThreads without a P in uninterruptible sleep are worth a warning: the runtime makes a new one for each.
const manyThreads = 50

// sleptLong is from when on a thread's uninterruptible sleep is worth a word though it holds up no P.
const sleptLong = time.Second

// threadsWithoutP gives the threads that are in uninterruptible sleep at the end of the window, and have been for a
// while, without carrying a P; the longest first.
func threadsWithoutP(w *Window) (out []ThreadWindow) {
	for _, th := range w.Threads {
		if th.WithoutP && th.State == pstate.Uninterruptible && w.End-th.Since >= int64(sleptLong) {
			out = append(out, th)
		}
	}
	slices.SortStableFunc(out, func(a, b ThreadWindow) int { return cmp.Compare(a.Since, b.Since) })
	return out
}

func threads(n int) string {
	if n == 1 {
		return "One thread is"
	}
	return fmt.Sprintf("%d threads are", n)
}

func overloaded(w *Window, ps []PWindow) (Finding, bool) {
	hot := where(ps, func(p PWindow) bool {
		return p.QueueKnown && p.Busy >= overloadedBusy && p.Queue >= overloadedQueue
	})
	if len(hot) == 0 {
		return Finding{}, false
	}
	worst := most(hot, func(p PWindow) float64 { return p.Queue })
	f := Finding{Kind: Overloaded, Severity: Warning, Ps: indexes(hot), Value: worst.Queue,
		Evidence: fmt.Sprintf("P%d was busy %s of %s with %.1f goroutines queued on it on average%s.", worst.P,
			percent(worst.Busy), span(w), worst.Queue, others(len(hot)))}
	if worst.Queue >= overloadedBad {
		f.Severity = Critical
	}
	if len(hot) == len(ps) {
		f.Ps = nil
		f.Advice = "Every P is saturated: the process needs more CPUs (and GOMAXPROCS with them) or less work; a CPU " +
			"profile says where the work is."
	} else {
		f.Advice = "Work piles up on some Ps while others keep up: look for goroutines that start many others at " +
			"once, or that never yield; a CPU profile of the process shows them."
	}
	return f, true
}

func idle(w *Window, ps []PWindow) (Finding, bool) {
	waiting := where(ps, func(p PWindow) bool { return p.QueueKnown && p.QueueIdle >= idleShare })
	if len(waiting) == 0 {
		return Finding{}, false
	}
	worst := most(waiting, func(p PWindow) float64 { return p.QueueIdle })
	f := Finding{Kind: Idle, Severity: Warning, Ps: indexes(waiting), Value: worst.QueueIdle,
		Evidence: fmt.Sprintf("In %s of %d looks within %s goroutines were queued on P%d, %.1f on average, while "+
			"another P was idle%s.",
			percent(worst.QueueIdle), worst.Looks, span(w), worst.P, worst.QueueIdleDepth, others(len(waiting))),
		Advice: "Idle Ps should have stolen that work: short bursts may have ended before a thief woke."}
	switch {
	case worst.Stuck >= dNotable:
		f.Advice = "The goroutines' P was held by a thread in uninterruptible sleep for part of the time: see that " +
			"finding first."
	case len(where(ps, func(p PWindow) bool { return p.Thread[pstate.Runnable]+p.WakeWait >= waitWarning })) > 0:
		f.Advice = "Threads waited for a CPU in the same time (see cpu_wait): a thief that has none steals nothing."
	}
	return f, true
}

// waits is the share in which a P had a thread that was ready to run, and no CPU.
func waits(p PWindow) float64 { return min(1, p.Thread[pstate.Runnable]+p.WakeWait) }

func cpuWait(w *Window, ps []PWindow) (Finding, bool) {
	waiting := where(ps, func(p PWindow) bool { return waits(p) >= waitWarning })
	if len(waiting) == 0 || throttledEnough(w, ps) {
		return Finding{}, false
	}
	worst := most(waiting, waits)
	f := Finding{Kind: CPUWait, Severity: Warning, Ps: indexes(waiting), Value: waits(worst),
		Evidence: fmt.Sprintf("P%d had a thread ready but no CPU for %s of %s (%s runnable with the P, %s from being "+
			"handed over until it ran)%s.",
			worst.P, percent(waits(worst)), span(w), percent(worst.Thread[pstate.Runnable]), percent(worst.WakeWait),
			others(len(waiting))),
		Advice: fmt.Sprintf("More threads want to run than there are CPUs for them: GOMAXPROCS is %d; compare it with "+
			"the CPUs%s, look for other busy processes on the host, and lower GOMAXPROCS or give it more CPUs.",
			w.GOMAXPROCS, besideQuota(w))}
	if f.Value >= waitCritical {
		f.Severity = Critical
	}
	return f, true
}

func stops(w *Window, ps []PWindow) (Finding, bool) {
	var total time.Duration
	var longest *pstate.Stop
	for i := range w.Stops {
		s := &w.Stops[i]
		total += time.Duration(min(s.End, w.End) - max(s.Start, w.Start))
		if longest == nil || s.Duration() > longest.Duration() {
			longest = s
		}
	}
	if longest == nil {
		return Finding{}, false
	}
	share := float64(total) / float64(w.Duration())
	if share < stopWarning && longest.Duration() < stopLong {
		return Finding{}, false
	}
	slowest := ""
	if p, ok := longest.SlowestP(); ok {
		slowest = fmt.Sprintf(", last to arrive was P%d", p)
	}
	f := Finding{Kind: Stops, Severity: Warning, Value: share,
		Evidence: fmt.Sprintf("The world was stopped %d times for %s of %s; the longest took %s (%s%s).", len(w.Stops),
			percent(share), span(w), short(longest.Duration()), longest.Reason, slowest),
		Advice: stopAdvice(w)}
	if share >= stopCritical {
		f.Severity = Critical
	}
	return f, true
}

// stopAdvice depends on what the world was stopped for most of the time. Whether the program asks for its collections
// itself, the runtime says in no reason: so the advice leaves that open.
func stopAdvice(w *Window) string {
	by := map[string]time.Duration{}
	reason := ""
	for i := range w.Stops {
		r := w.Stops[i].Reason
		by[r] += w.Stops[i].Duration()
		if by[r] > by[reason] {
			reason = r
		}
	}
	const long = " A long one waits for a P that can't be preempted or has no CPU: look at its state at that moment " +
		"in the timeline."
	if pstate.ForGC(reason) {
		return "Most of it was for garbage collection. If the program calls runtime.GC or debug.FreeOSMemory itself, " +
			"let it do so less often; " +
			"else it allocates much in a small heap: raise GOGC or GOMEMLIMIT, or allocate less." + long
	}
	return fmt.Sprintf("Most of it was for %q: find in the program what asks for that, and do it less often.", reason) +
		long
}

func imbalance(w *Window, ps []PWindow) (Finding, bool) {
	if len(ps) < 2 {
		return Finding{}, false
	}
	// A P that a sleeping thread holds does no work, and one whose thread waits for a CPU would do more: neither says
	// how the work is spread.
	if len(where(ps, func(p PWindow) bool { return p.Stuck >= dNotable })) > 0 {
		return Finding{}, false
	}
	busiest := most(ps, func(p PWindow) float64 { return p.Busy })
	idlest := most(ps, func(p PWindow) float64 { return -p.Busy })
	spread := busiest.Busy - idlest.Busy
	if spread < imbalanceSpread {
		return Finding{}, false
	}
	queued := where(ps, func(p PWindow) bool { return p.QueueKnown && p.QueueIdle >= idleShare })
	f := Finding{Kind: Imbalance, Severity: Info, Ps: []int32{busiest.P, idlest.P}, Value: spread,
		Evidence: fmt.Sprintf("P%d was busy %s of %s, P%d %s; the coefficient of variation over %d Ps is %.2f.",
			busiest.P,
			percent(busiest.Busy), span(w), idlest.P, percent(idlest.Busy), len(ps), variation(ps)),
		Advice: "Hardly anything queues while Ps are idle, so there is simply less parallel work than Ps: a lower " +
			"GOMAXPROCS would do as well, or split the work into more goroutines."}
	if len(where(ps, func(p PWindow) bool { return !p.QueueKnown })) > 0 {
		f.Advice = "How many goroutines queue is not known: if none do, there is less parallel work than Ps."
	}
	if len(queued) > 0 {
		f.Severity = Warning
		f.Advice = "Goroutines queue while other Ps are idle: see the finding on idle Ps."
	}
	return f, true
}

// variation is the coefficient of variation of the busy shares: their standard deviation by their mean.
func variation(ps []PWindow) float64 {
	var sum, squares float64
	for i := range ps {
		b := ps[i].Busy
		sum += b
		squares += b * b
	}
	n := float64(len(ps))
	mean := sum / n
	if mean == 0 {
		return 0
	}
	return math.Sqrt(max(0, squares/n-mean*mean)) / mean
}

func where(ps []PWindow, is func(PWindow) bool) (out []PWindow) {
	for _, p := range ps {
		if is(p) {
			out = append(out, p)
		}
	}
	return out
}

func most(ps []PWindow, of func(PWindow) float64) PWindow {
	return slices.MaxFunc(ps, func(a, b PWindow) int { return cmp.Compare(of(a), of(b)) })
}

func indexes(ps []PWindow) []int32 {
	out := make([]int32, len(ps))
	for i := range ps {
		out[i] = ps[i].P
	}
	return out
}

func percent(share float64) string {
	s := fmt.Sprintf("%.1f", share*100)
	return strings.TrimSuffix(s, ".0") + " %"
}

func span(w *Window) string { return short(w.Duration()) }

// short rounds to three digits.
func short(d time.Duration) string {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= 10*unit {
			return d.Round(unit / 10).String()
		}
	}
	return d.String()
}

func others(n int) string {
	switch n {
	case 1:
		return ""
	case 2:
		return "; one more P is like it"
	}
	return fmt.Sprintf("; %d more Ps are like it", n-1)
}
