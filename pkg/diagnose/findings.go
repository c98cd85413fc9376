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
	// Value is the number behind the evidence: a share of 1 for imbalance (busiest minus idlest P), idle, uninterruptible, cpu_wait
	// and stops; goroutines for overloaded.
	Value float64
}

// Thresholds from which on a finding is made. They are chosen so that a healthy process has none.
const (
	minWindow = time.Second // below it, shares say little

	imbalanceSpread = 0.5 // busiest minus idlest P
	overloadedBusy  = 0.8
	overloadedQueue = 1.0
	overloadedBad   = 16.0
	idleShare       = 0.5
	dNotable        = 0.05
	dWarning        = 0.2
	dCritical       = 0.95 // the alert rule's threshold
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
	for _, rule := range []func(*Window, []PWindow) (Finding, bool){uninterruptible, overloaded, idle, cpuWait, stops, imbalance} {
		if f, ok := rule(w, alive); ok {
			fs = append(fs, f)
		}
	}
	slices.SortStableFunc(fs, func(a, b Finding) int { return cmp.Compare(rank(b.Severity), rank(a.Severity)) })
	return fs
}

func rank(s Severity) int { return slices.Index([]Severity{Info, Warning, Critical}, s) }

func uninterruptible(w *Window, ps []PWindow) (Finding, bool) {
	stuck := where(ps, func(p PWindow) bool { return p.Uninterruptible >= dNotable })
	if len(stuck) == 0 {
		return Finding{}, false
	}
	worst := most(stuck, func(p PWindow) float64 { return p.Uninterruptible })
	f := Finding{Kind: Uninterruptible, Severity: Info, Ps: indexes(stuck), Value: worst.Uninterruptible,
		Evidence: fmt.Sprintf("P%d's thread was in uninterruptible sleep %s of %s%s.", worst.P, percent(worst.Uninterruptible), span(w), others(len(stuck))),
		Advice: "Look for page faults on slow storage, swap, NFS or FUSE (a memory-mapped file, memory pressure) and for blocking disk calls: " +
			"the top blocked threads name the thread; cat /proc/<pid>/task/<tid>/stack as root names the kernel function."}
	switch {
	case worst.Uninterruptible >= dCritical:
		f.Severity = Critical
	case worst.Uninterruptible >= dWarning:
		f.Severity = Warning
	}
	return f, true
}

func overloaded(w *Window, ps []PWindow) (Finding, bool) {
	hot := where(ps, func(p PWindow) bool {
		return p.QueueKnown && p.Busy() >= overloadedBusy && p.Queue >= overloadedQueue
	})
	if len(hot) == 0 {
		return Finding{}, false
	}
	worst := most(hot, func(p PWindow) float64 { return p.Queue })
	f := Finding{Kind: Overloaded, Severity: Warning, Ps: indexes(hot), Value: worst.Queue,
		Evidence: fmt.Sprintf("P%d was busy %s of %s with %.1f goroutines queued on it on average%s.", worst.P, percent(worst.Busy()), span(w), worst.Queue, others(len(hot)))}
	if worst.Queue >= overloadedBad {
		f.Severity = Critical
	}
	if len(hot) == len(ps) {
		f.Ps = nil
		f.Advice = "Every P is saturated: the process needs more CPUs (and GOMAXPROCS with them) or less work; a CPU profile says where the work is."
	} else {
		f.Advice = "Work piles up on some Ps while others keep up: look for goroutines that start many others at once, or that never yield; a CPU profile of the process shows them."
	}
	return f, true
}

func idle(w *Window, ps []PWindow) (Finding, bool) {
	lazy := where(ps, func(p PWindow) bool { return p.State[pstate.Idle] >= idleShare })
	queued := where(ps, func(p PWindow) bool { return p.QueueKnown && p.Queue >= overloadedQueue })
	if len(lazy) == 0 || len(queued) == 0 {
		return Finding{}, false
	}
	worst := most(lazy, func(p PWindow) float64 { return p.State[pstate.Idle] })
	deep := most(queued, func(p PWindow) float64 { return p.Queue })
	return Finding{Kind: Idle, Severity: Warning, Ps: indexes(lazy), Value: worst.State[pstate.Idle],
		Evidence: fmt.Sprintf("P%d was idle %s of %s while %.1f goroutines were queued on P%d on average%s.", worst.P, percent(worst.State[pstate.Idle]), span(w), deep.Queue, deep.P, others(len(lazy))),
		Advice:   "Idle Ps should have stolen that work. See whether their threads wait for a CPU (cpu_wait), whether the queued P is stuck in uninterruptible sleep, or whether short bursts end before a thief wakes."}, true
}

func cpuWait(w *Window, ps []PWindow) (Finding, bool) {
	wait := func(p PWindow) float64 { return p.Thread[pstate.Runnable] }
	waiting := where(ps, func(p PWindow) bool { return wait(p)+p.WakeWait >= waitWarning })
	if len(waiting) == 0 {
		return Finding{}, false
	}
	total := func(p PWindow) float64 { return min(1, wait(p)+p.WakeWait) }
	worst := most(waiting, total)
	f := Finding{Kind: CPUWait, Severity: Warning, Ps: indexes(waiting), Value: total(worst),
		Evidence: fmt.Sprintf("P%d had a thread ready but no CPU for %s of %s (%s runnable with the P, %s from being handed over until it ran)%s.",
			worst.P, percent(total(worst)), span(w), percent(wait(worst)), percent(worst.WakeWait), others(len(waiting))),
		Advice: fmt.Sprintf("More threads want to run than there are CPUs for them: GOMAXPROCS is %d; compare it with the CPUs and the cgroup's CPU quota, look for other busy processes on the host, and lower GOMAXPROCS or raise the quota.", w.GOMAXPROCS)}
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
		Evidence: fmt.Sprintf("The world was stopped %d times for %s of %s; the longest took %s (%s%s).", len(w.Stops), percent(share), span(w), short(longest.Duration()), longest.Reason, slowest),
		Advice:   "Frequent GC stops come from allocating much in a small heap: raise GOGC or GOMEMLIMIT, or allocate less. A long one waits for a P that can't be preempted or has no CPU: look at its state at that moment in the timeline."}
	if share >= stopCritical {
		f.Severity = Critical
	}
	return f, true
}

func imbalance(w *Window, ps []PWindow) (Finding, bool) {
	if len(ps) < 2 {
		return Finding{}, false
	}
	busiest := most(ps, func(p PWindow) float64 { return p.Busy() })
	idlest := most(ps, func(p PWindow) float64 { return -p.Busy() })
	spread := busiest.Busy() - idlest.Busy()
	if spread < imbalanceSpread {
		return Finding{}, false
	}
	queued := where(ps, func(p PWindow) bool { return p.QueueKnown && p.Queue >= overloadedQueue })
	f := Finding{Kind: Imbalance, Severity: Info, Ps: []int32{busiest.P, idlest.P}, Value: spread,
		Evidence: fmt.Sprintf("P%d was busy %s of %s, P%d %s; the coefficient of variation over %d Ps is %.2f.", busiest.P, percent(busiest.Busy()), span(w), idlest.P, percent(idlest.Busy()), len(ps), variation(ps)),
		Advice:   "Nothing queues, so there is simply less parallel work than Ps: a lower GOMAXPROCS would do as well, or split the work into more goroutines."}
	if len(queued) > 0 {
		f.Severity = Warning
		f.Advice = "Goroutines queue while other Ps are idle: see the findings on overloaded and idle Ps."
	}
	return f, true
}

// variation is the coefficient of variation of the busy shares: their standard deviation by their mean.
func variation(ps []PWindow) float64 {
	var sum, squares float64
	for i := range ps {
		b := ps[i].Busy()
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
