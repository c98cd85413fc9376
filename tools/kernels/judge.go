package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/tools/kernels/account"
)

// The bars.
// of a share against the program's own account, on an emulated machine of two CPUs; -share-error changes it
var mostShareError = 0.02

const mostSumError = 0.01 // of all states together against the clock, which includes the time of a scrape

// verdict is one check of a cell.
type verdict struct {
	Check   string   `json:"check"`
	Wrong   []string `json:"wrong,omitempty"` // empty: as promised
	Skipped string   `json:"skipped,omitempty"`
}

func (v verdict) good() bool { return len(v.Wrong) == 0 }

func (v *verdict) say(format string, args ...any) {
	v.Wrong = append(v.Wrong, fmt.Sprintf(format, args...))
}

// judge holds what was seen against what is promised, check by check.
func judge(r *account.Result) []verdict {
	p, err := promised(r.Kernel, r.User)
	whole := verdict{Check: "the check came to its end"}
	if err != nil {
		whole.say("%v", err)
	}
	if r.Failed != "" {
		whole.say("%s", r.Failed)
	}
	if !whole.good() {
		return []verdict{whole}
	}
	return []verdict{whole, source(r, p), shares(r, p), stops(r, p), samples(r, p), wakeWaits(r, p), depths(r),
		search(r, p), losses(r), doctor(r)}
}

// source is how the programs are observed. With less than everything there must be a reason.
func source(r *account.Result, p promise) verdict {
	v := verdict{Check: "source"}
	if r.Mode != p.Source {
		v.say("the agent's mode is %s instead of %s: %s", r.Mode, p.Source, why(r))
	}
	if r.Table.Source != p.Source {
		v.say("the program is observed by %s instead of %s: %s", r.Table.Source, p.Source, r.Table.Reason)
	}
	if p.Source != "ebpf" && r.Table.Reason == "" {
		v.say("no reason is given for %s", r.Table.Source)
	}
	if r.Table.Layout != "table" {
		v.say("the layout is from %q instead of the table", r.Table.Layout)
	}
	if !r.History {
		v.say("/api/v1/query knows nothing of the program")
	}
	return v
}

// why is what the agent says it lacks for eBPF.
func why(r *account.Result) string {
	for _, l := range r.Lacks {
		if l.What == lack.EBPF {
			return l.Why
		}
	}
	return "no reason given"
}

// shares are promised where events are seen; snapshots estimate.
func shares(r *account.Result, p promise) verdict {
	v := verdict{Check: "shares"}
	if p.Source != "ebpf" {
		v.Skipped = "snapshots estimate"
		return v
	}
	t := r.Table
	if withoutSamples(r.User, r.Paranoid) {
		t.Shares = maps.Clone(t.Shares)
		maps.DeleteFunc(t.Shares, func(state string, _ account.Share) bool { return state != "idle" })
	}
	compareShares(&v, &t)
	return v
}

func compareShares(v *verdict, t *account.Target) {
	if len(t.Shares) == 0 {
		v.say("none were seen")
	}
	for _, state := range sortedKeys(t.Shares) {
		if s := t.Shares[state]; math.Abs(s.Own-s.Seen) > mostShareError+2*t.SamplingError(state) {
			v.say("%s: %.1f %% by the program's account, %.1f %% seen", state, s.Own*100, s.Seen*100)
		}
	}
	if t.SumError > mostSumError {
		v.say("all states together are off by %.2f %%", t.SumError*100)
	}
}

// stops must be exactly the runtime's, or absent with a reason.
func stops(r *account.Result, p promise) verdict {
	v := verdict{Check: "stops"}
	if p.Stops {
		compareStops(&v, &r.Table)
		return v
	}
	if s := r.Table.Stops; s != nil && s.All > 0 {
		v.say("%d were seen, which is more than the docs promise: %s", s.All, p.Says)
	}
	if r.Table.Reason == "" {
		v.say("none are seen, and no reason is given")
	}
	return v
}

func compareStops(v *verdict, t *account.Target) {
	switch s := t.Stops; {
	case s == nil:
		v.say("none were seen of %d: %s", t.RuntimeStops.Most, t.Reason)
	case s.All < t.RuntimeStops.Least || s.All > t.RuntimeStops.Most:
		v.say("%d of %s were seen", s.All, t.RuntimeStops)
	case s.GC < t.RuntimeGC.Least || s.GC > t.RuntimeGC.Most:
		v.say("%d of %s for the GC were seen", s.GC, t.RuntimeGC)
	}
}

// samples are what tells running, syscall and gc on a CPU apart.
func samples(r *account.Result, p promise) verdict {
	v := verdict{Check: "samples"}
	if p.Source != "ebpf" {
		v.Skipped = "snapshots take none"
		return v
	}
	reason := ""
	for _, l := range r.Lacks {
		if l.What == lack.Samples {
			reason = l.Why
		}
	}
	switch none := withoutSamples(r.User, r.Paranoid); {
	case !none && reason != "":
		v.say("there are none: %s", reason)
	case none && !strings.Contains(reason, "kernel.perf_event_paranoid is"):
		v.say("there should be none with kernel.perf_event_paranoid = %d, and the reason should name it: %q",
			r.Paranoid, reason)
	}
	return v
}

func wakeWaits(r *account.Result, p promise) verdict {
	v := verdict{Check: "wake waits"}
	w := r.Table.WakeWaits
	switch {
	case p.Source == "ebpf" && (w == nil || w.N == 0):
		v.say("none were seen")
	case p.Source != "ebpf" && w != nil:
		v.say("snapshots can't see any, and %d are shown", w.N)
	}
	return v
}

// depths are of a time in which as many goroutines wait as account.Queued. One may have just been taken from a queue,
// or put back.
func depths(r *account.Result) verdict {
	v := verdict{Check: "run queues"}
	d := r.Table.Depths()
	if len(d) == 0 {
		v.say("none were seen")
		return v
	}
	if m := median(d); m < account.Queued-1 || m > account.Queued+1 {
		v.say("%d goroutines waited, %g were seen (%v)", account.Queued, m, r.Table.Queues)
	}
	return v
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return s[len(s)/2]
}

// search is for a program whose layout is in no table: found in its code, proven in its memory, and then as good as
// another.
func search(r *account.Result, p promise) verdict {
	v := verdict{Check: "layout search"}
	t := &r.Search
	if t.Source != p.Source || t.Layout != "search" {
		v.say("observed by %s, layout from %q: %s", t.Source, t.Layout, t.Reason)
	}
	if p.Stops {
		compareStops(&v, t)
	}
	return v
}

// ofTimeline are the losses that leave gaps in raw intervals alone: merged ones stand there instead, and totals have
// everything (docs/runbooks/pscope-lost-events.md).
var ofTimeline = []string{loss.IntervalBudget, loss.LateInterval}

// mostFaults is how many reads of memory may have failed: such are repaired by the next snapshot.
const mostFaults = 3

// losses must not concern totals.
func losses(r *account.Result) verdict {
	v := verdict{Check: "losses"}
	for _, reason := range sortedKeys(r.Table.Lost) {
		n := r.Table.Lost[reason]
		if !slices.Contains(ofTimeline, reason) && (reason != loss.ReadFault || n > mostFaults) {
			v.say("%.0f events: %s", n, reason)
		}
	}
	return v
}

// doctor and agent must never disagree.
func doctor(r *account.Result) verdict {
	v := verdict{Check: "doctor agrees"}
	d := &r.Doctor
	seen := r.Table.Stops != nil && r.Table.Stops.All > 0
	switch {
	case d.Failed != "":
		v.say("it failed: %s", d.Failed)
	case d.Mode != r.Mode:
		v.say("its mode is %s, the agent's %s", d.Mode, r.Mode)
	case d.Stops == "":
		v.say("it does not say whether stops are seen")
	case seen != (d.Stops == "ok"):
		v.say("it says of stops: %s; the agent saw some: %v", d.Stops, seen)
	}
	return v
}
