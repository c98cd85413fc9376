package diagnose

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// Thresholds of the finding on CPU quotas.
const (
	quotaPeriods   = 10   // fewer say little: a second with the usual period of 100 ms
	quotaThrottled = 0.05 // share of the periods in which the quota was used up
	quotaWait      = 0.05 // share in which a P waited for a CPU: else the process itself is not held up
	quotaExplains  = 0.25 // of the time in which Ps waited, from which on the quota is the cause
)

// worstQuota is the quota that was used up in the largest share of its periods.
func worstQuota(w *Window) (worst QuotaWindow, share float64) {
	for _, q := range w.Quotas {
		if q.Periods >= quotaPeriods {
			if s := ratio(q.ThrottledPeriods, q.Periods); s > share {
				worst, share = q, s
			}
		}
	}
	return worst, share
}

// throttledEnough says whether a quota, and not a lack of CPUs, is what the Ps waited for. What a quota counts is
// summed over CPUs, the waits over Ps, of which there may be several for a CPU.
func throttledEnough(w *Window, ps []PWindow) bool {
	q, share := worstQuota(w)
	if share < quotaThrottled {
		return false
	}
	var waited float64
	for i := range ps {
		waited += waits(ps[i])
	}
	return waits(most(ps, waits)) >= quotaWait && q.Throttled.Seconds() >= quotaExplains*waited*w.Duration().Seconds()
}

func quota(w *Window, ps []PWindow) (Finding, bool) {
	q, share := worstQuota(w)
	if !throttledEnough(w, ps) {
		return Finding{}, false
	}
	worst := most(ps, waits)
	f := Finding{
		Kind:     Quota,
		Severity: Warning,
		Value:    share,
		Evidence: fmt.Sprintf(
			"The CPU quota of the control group %s, %s cores, was used up in %s of %d periods, which kept threads "+
				"from "+
				"running for %s, summed over CPUs. "+
				"P%d had a thread ready but no CPU for %s of %s; GOMAXPROCS is %d.",
			q.Path,
			cores(q.Cores),
			percent(share),
			q.Periods,
			short(q.Throttled.Round(time.Millisecond)),
			worst.P,
			percent(waits(worst)),
			span(w),
			w.GOMAXPROCS,
		),
		Advice: quotaAdvice(w, q),
	}
	if waits(worst) >= waitCritical {
		f.Severity = Critical
	}
	return f, true
}

func quotaAdvice(w *Window, q QuotaWindow) string {
	// What Go 1.25 and later make of a quota: it is rounded up, and 2 at least (runtime/cgroup_linux.go,
	// adjustCgroupGOMAXPROCS).
	fits := int32(max(2, math.Ceil(q.Cores)))
	const raise = "Raise the quota, or let the process and whatever else runs in that group do less."
	switch {
	case w.GOMAXPROCS <= fits:
		return "GOMAXPROCS fits the quota, and more work is there than it allows. " + raise
	case takesQuota(w.Target.GoVersion):
		return fmt.Sprintf(
			"GOMAXPROCS %d is more than the %d that fit the quota. Go 1.25 and later take it from the quota unless "+
				"GOMAXPROCS is set, in the environment or by the program, "+
				"or go.mod names an older Go: remove that, or set %d. ",
			w.GOMAXPROCS,
			fits,
			fits,
		) + raise
	}
	return fmt.Sprintf(
		"GOMAXPROCS %d is more than the %d that fit the quota, so the Ps use it up early in each period and then "+
			"stand "+
			"still together. Go before 1.25 does not look at quotas: "+
			"set GOMAXPROCS to %d, or build with a newer Go. ",
		w.GOMAXPROCS,
		fits,
		fits,
	) + raise
}

// takesQuota says whether a release of Go sets GOMAXPROCS by the quota.
func takesQuota(version string) bool {
	minor, ok := strings.CutPrefix(version, "go1.")
	if end := strings.IndexFunc(minor, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		minor = minor[:end] // of a patch, a release candidate or a vendor
	}
	n, err := strconv.Atoi(minor)
	return ok && err == nil && n >= 25
}

// besideQuota says in the advice on waiting for CPUs what part quotas have in it.
func besideQuota(w *Window) string {
	switch q, share := worstQuota(w); {
	case share > 0:
		return fmt.Sprintf(
			" (the CPU quota of %s, %s cores, was used up in %s of its periods, which does not explain it)",
			q.Path,
			cores(q.Cores),
			percent(share),
		)
	case len(w.Quotas) > 0:
		return " (no CPU quota throttled it in that time)"
	case w.QuotaKnown:
		return ""
	}
	return " and with the control group's CPU quota, which is not known"
}

func cores(n float64) string { return strconv.FormatFloat(math.Round(n*100)/100, 'g', -1, 64) }

// suspended tells of threads that somebody outside of the program kept from running.
func suspended(w *Window, ps []PWindow) (Finding, bool) {
	held := where(ps, func(p PWindow) bool { return p.Suspended() >= dNotable })
	if len(held) == 0 {
		return allSuspended(w)
	}
	worst := most(held, func(p PWindow) float64 { return p.Suspended() })
	f := Finding{Kind: Suspended, Severity: Warning, Ps: indexes(held), Value: worst.Suspended()}
	var how []string
	for _, s := range []pstate.ThreadState{pstate.Stopped, pstate.Frozen} {
		if share := worst.Thread[s]; share > 0 {
			by, advice := cause(w, s)
			how = append(how, fmt.Sprintf("%v for %s of %s%s", s, percent(share), span(w), by))
			f.Advice = strings.TrimSpace(f.Advice + " " + advice)
		}
	}
	f.Evidence = fmt.Sprintf(
		"P%d had work in hand, and its thread was %s%s.",
		worst.P,
		strings.Join(how, ", and "),
		others(len(held)),
	)
	return f, true
}

// allSuspended is a process of which no P had work in hand when it was suspended: nothing runs in it all the same.
func allSuspended(w *Window) (Finding, bool) {
	if len(w.Threads) == 0 {
		return Finding{}, false
	}
	state := w.Threads[0].State
	since := int64(0)
	for i := range w.Threads {
		th := &w.Threads[i]
		if !th.AtEnd || !th.State.Suspended() {
			return Finding{}, false
		}
		since = max(since, th.Since)
	}
	lasted := time.Duration(w.End - since)
	if lasted < sleptLong {
		return Finding{}, false
	}
	by, advice := cause(w, state)
	return Finding{
		Kind:     Suspended,
		Severity: Warning,
		Value:    min(1, float64(lasted)/float64(w.Duration())),
		Advice:   advice,
		Evidence: fmt.Sprintf(
			"All %d threads of the process have been %v for %s%s. No P had work in hand.",
			len(w.Threads),
			state,
			short(lasted.Round(time.Millisecond)),
			by,
		),
	}, true
}

// cause says by what threads were brought into a state, and what to do.
func cause(w *Window, state pstate.ThreadState) (by, advice string) {
	s := w.StoppedBy
	if state == pstate.Frozen {
		s = w.FrozenBy
	}
	switch s.By {
	case pstate.SuspendedBySignal:
		return " by a signal (SIGSTOP, or job control of a terminal)",
			fmt.Sprintf("kill -CONT %d lets it go on; in the shell that started it, fg or bg.", w.Target.PID)
	case pstate.SuspendedByTracer:
		name := s.TracerName
		if name == "" {
			name = "a process"
		}
		return fmt.Sprintf(" by %s (process %d), which traces it", name, s.Tracer),
			fmt.Sprintf("It goes on when %s continues it, detaches, or ends.", name)
	case pstate.SuspendedByFreezer:
		if s.Cgroup == "" {
			return " by the freezer of a control group that is not visible from the agent's place",
				"Whoever froze the group has to thaw it, as docker unpause does."
		}
		return " by the freezer of the control group " + s.Cgroup,
			"Whoever froze the group has to thaw it: docker unpause, systemctl thaw, 0 in cgroup.freeze, or THAWED in freezer.state."
	}
	if state == pstate.Frozen {
		return ", by the freezer of a control group", "Whoever froze the group has to thaw it."
	}
	return ", by a signal or a tracer", fmt.Sprintf(
		"If it still is: TracerPid in /proc/%d/status names a tracer; without one, kill -CONT %d lets it go on.",
		w.Target.PID,
		w.Target.PID,
	)
}
