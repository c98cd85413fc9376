package pstate

import (
	"cmp"
	"slices"
	"time"
)

// Cgroup is what the control groups of a target say at one instant (pkg/cgroup). Nothing in it is changed once it has
// been made.
type Cgroup struct {
	Limits   []CPULimit // the quotas that hold for the target: its own group's first, then those of its ancestors
	Pressure []Pressure // of its group in cgroup v2; empty where there is none
	// Unreadable says why something is not known, by what: cpu, pressure, freezer.
	Unreadable map[string]string
}

// CPULimit is a quota of CPU time.
type CPULimit struct {
	Path  string // of the group that sets it
	Cores float64
	// Since the group was made: periods in which it wanted to run, those in which it was throttled, and for how long,
	// summed over CPUs.
	Periods, ThrottledPeriods uint64
	Throttled                 time.Duration
}

// Tightest is the smallest quota; ok is false where there is none.
func (c *Cgroup) Tightest() (l CPULimit, ok bool) {
	if c == nil || len(c.Limits) == 0 {
		return l, false
	}
	return slices.MinFunc(c.Limits, func(a, b CPULimit) int { return cmp.Compare(a.Cores, b.Cores) }), true
}

// Pressure is for how long threads of a group waited for a resource (Documentation/accounting/psi.rst).
type Pressure struct {
	Resource         string        // cpu, io or memory
	Some, Full       time.Duration // at least one thread waited; all that had something to do did
	HasSome, HasFull bool          // older kernels have no `full` of the CPU
}
