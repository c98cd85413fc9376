package pstate

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// Interval is the raw record everything else is made from: P stayed in State, carried by a thread in Thread, from Start
// to End.
type Interval struct {
	P      int32
	State  State
	Thread ThreadState
	// Merged marks an interval whose place inside its 100 ms window is not known, only its share: the kernel side was
	// over its budget of raw records (counted in pscope_lost_events_total{reason="interval_budget"}) and only the
	// counters went on.
	Merged bool
	Start  int64 // Unix nanoseconds
	End    int64 // Unix nanoseconds, exclusive
}

// Duration of the interval.
func (i Interval) Duration() time.Duration { return time.Duration(i.End - i.Start) }

// Stop is one stop-the-world interval.
type Stop struct {
	Start    int64  // Unix nanoseconds: stopTheWorldWithSema was entered
	End      int64  // Unix nanoseconds: startTheWorldWithSema had started it again; 0 while the world is stopped
	Reason   string // runtime.stwReason in words, e.g. "GC mark termination"
	Arrivals []Arrival
}

// ForGC says whether a reason of a stop is one of the garbage collector's: the runtime's words for these begin so.
func ForGC(reason string) bool { return strings.HasPrefix(reason, "GC ") }

// Duration of the stop; 0 while it lasts.
func (s Stop) Duration() time.Duration {
	if s.End == 0 {
		return 0
	}
	return time.Duration(s.End - s.Start)
}

// SlowestP is the P that arrived last; ok is false when no P's arrival is known.
func (s Stop) SlowestP() (p int32, ok bool) {
	var last int64
	for _, a := range s.Arrivals {
		if !ok || a.At > last {
			p, last, ok = a.P, a.At, true
		}
	}
	return p, ok
}

// Arrival says when one P came to rest in a stop.
type Arrival struct {
	P  int32
	At int64 // Unix nanoseconds
}

// Histogram counts durations in exponential buckets: bucket i counts values v with Bound(i-1) < v <= Bound(i), where
// Bound(i) = HistBound(i) = 2^((i+HistMin)/2) seconds. These are the bounds of a Prometheus native histogram of schema
// 1.
type Histogram struct {
	Buckets [HistBuckets]uint64
	Sum     time.Duration
	Count   uint64
}

// The range of Histogram: 2^(-26) s = 15 ns to 2^(5) s = 32 s; values outside fall into the first and last bucket.
const (
	HistMin     = -52
	HistBuckets = 64
	HistSchema  = 1
)

// PView is what is known of one P at one instant. Durations and counts are totals since the target was first seen and
// never decrease.
type PView struct {
	P           int32
	State       State
	Thread      ThreadState
	Since       int64 // Unix nanoseconds: when the present (State, Thread) began
	TID         int32 // kernel thread that carries the P; 0 if none
	RunqDepth   int32 // -1: not known
	SchedTick   uint64
	SyscallTick uint64
	// Time in each state and thread state; sums to the instant minus FirstSeen. In snapshot mode, shares of samples
	// times wall.
	Time [NumStates][NumThreadStates]time.Duration
	// Uninterruptible is the D share's numerator; see DESIGN "D share".
	Uninterruptible time.Duration
	Transitions     [NumStates][NumStates]uint64
	WakeWait        Histogram
	StopTime        time.Duration // time this P spent halted in stops
	RunqHist        [RunqBuckets]uint64
	RunqSum         uint64 // goroutines seen in all the looks that RunqHist counts
	// RunqIdle counts the looks in which goroutines were queued on this P while another P was idle, and RunqIdleSum
	// those goroutines.
	RunqIdle, RunqIdleSum uint64
	Migrations            uint64 // see TargetView.Migrations
	FirstSeen             int64  // Unix nanoseconds
}

// RunqBuckets is the number of buckets of runq depth: bucket 0 counts depth 0, bucket i counts depths in (2^(i-2),
// 2^(i-1)]. The last one ends at 512: a P's queue holds 256 plus runnext.
const RunqBuckets = 11

// RunqBound is the inclusive upper bound of bucket i.
func RunqBound(i int) int {
	if i == 0 {
		return 0
	}
	return 1 << (i - 1)
}

// RunqBucket is the bucket in which a depth falls.
func RunqBucket(depth int32) int {
	for i := 0; i < RunqBuckets-1; i++ {
		if int(depth) <= RunqBound(i) {
			return i
		}
	}
	return RunqBuckets - 1
}

// RunqLooks counts the looks at the P's run queue.
func (v *PView) RunqLooks() (n uint64) {
	for _, b := range v.RunqHist {
		n += b
	}
	return n
}

// StateTime is the time in one state over all thread states.
func (v *PView) StateTime(s State) (d time.Duration) {
	for _, t := range v.Time[s] {
		d += t
	}
	return d
}

// ThreadTime is the time in one thread state over all states.
func (v *PView) ThreadTime(ts ThreadState) (d time.Duration) {
	for s := range v.Time {
		d += v.Time[s][ts]
	}
	return d
}

// BusyTime is the time in which the P had work in hand and its thread was neither stopped nor frozen.
func (v *PView) BusyTime() (d time.Duration) {
	for s := range v.Time {
		for ts, t := range v.Time[s] {
			if State(s).Busy() && !ThreadState(ts).Suspended() {
				d += t
			}
		}
	}
	return d
}

// ThreadView is what is known of one thread of a target.
type ThreadView struct {
	TID   int32
	Comm  string
	P     int32 // the P it carries or last carried; -1 if none is known
	State ThreadState
	Since int64 // Unix nanoseconds
	Time  [NumThreadStates]time.Duration
}

// TargetView is a target with all that is known of it at one instant.
type TargetView struct {
	Target
	At         int64 // Unix nanoseconds: the instant
	GOMAXPROCS int32
	GlobalRunq int32 // -1: not known
	// GlobalRunqSum are the goroutines seen in the global run queue in GlobalRunqLooks looks.
	GlobalRunqLooks, GlobalRunqSum uint64

	Ps        []PView
	Threads   []ThreadView // the threads seen so far, bounded
	ThreadsAt int64        // Unix ns up to which Threads are told, up to about a second before At
	// StopHist counts finished stops by reason.
	StopHist map[string]Histogram
	// Lost, Reconciled and ProbeTime account for the observation itself.
	Lost       map[string]uint64        // by reason
	Reconciled map[string]uint64        // by reason
	ProbeTime  map[string]time.Duration // by tier, measured
	Governor   Governor
	Migrations Migrations
	Cgroup     *Cgroup // nil: not known
	// StoppedBy and FrozenBy are what last kept threads from running, and when; zero if nothing has.
	StoppedBy, FrozenBy Suspension
	// Paused is how long the target was not observed because the agent itself did not run. No total contains this time:
	// the states of a P sum to the time since FirstSeen less this.
	Paused time.Duration
}

// Suspension is what keeps threads of a target from running, from outside.
type Suspension struct {
	By         SuspendedBy
	Tracer     int32  // its pid; 0 unless By is SuspendedByTracer
	TracerName string // as it calls itself, cleaned
	// that is frozen; empty unless By is SuspendedByFreezer, or if it can't be seen from the agent's place
	Cgroup string
	At     int64 // Unix nanoseconds: when that was last seen
}

// SuspendedBy is a kind of Suspension.
type SuspendedBy uint8

// The kinds.
const (
	NotSuspended       SuspendedBy = iota
	SuspendedBySignal              // SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU
	SuspendedByTracer              // ptrace(2)
	SuspendedByFreezer             // of a control group
)

// Migrations says how PView.Migrations came to be: goroutines that started to run on the P after they had run on
// another, counted in windows and extrapolated (tier 2).
type Migrations struct {
	Counted bool          // false: PView.Migrations means nothing
	Watched time.Duration // the windows' sum
	// part of the starts in the last window of which it was known where the goroutine had run last
	Known float64
}

// Governor says how much of a target is left out so that observing it stays within its budget.
type Governor struct {
	Governed bool    // false: there is no budget
	Level    int     // see GovernorLevels
	Share    float64 // of the target's CPU time that observing took, when last measured
	Observed float64 // share of the time in which the target is observed: 1, less with windows, 0 with snapshots only
}

// GovernorLevels says what each level of the governor leaves out; a level leaves out what those below it do, too.
func GovernorLevels() []string {
	return []string{"nothing", "goroutine migrations", "raw intervals", "all but windows of a second", "stops",
		"everything but snapshots"}
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) {
	h.Buckets[HistBucket(d)]++
	h.Count++
	h.Sum += d
}

// HistBound is the inclusive upper bound of bucket i of a Histogram in seconds.
func HistBound(i int) float64 { return math.Exp2(float64(i+HistMin) / 2) }

// HistBucket is the bucket in which a duration falls.
func HistBucket(d time.Duration) int {
	s := d.Seconds()
	i, _ := slices.BinarySearchFunc(histBounds[:], s, func(bound, s float64) int { return cmp.Compare(bound, s) })
	return min(i, HistBuckets-1)
}

var histBounds = func() (b [HistBuckets]float64) {
	for i := range b {
		b[i] = HistBound(i)
	}
	return b
}()
