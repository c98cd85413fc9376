// Package target observes one Go runtime in one process.
//
// A Target has the records of its Ps, which the BPF programs write as well, and repairs them against snapshots of the
// runtime's own structures. It hands closed intervals to a Sink. Its parts have packages of their own: the books of a P
// are in ledger, what is observed at which cost is decided by govern, what happened in the time between is estimated by
// estimate, stops and migration have the probes.
package target

import "github.com/p-scope/p-scope/pkg/pstate"

// Sink receives raw records as they close. pkg/timeline's Store is one.
type Sink interface {
	Append(key pstate.Key, intervals []pstate.Interval)
	AppendStop(key pstate.Key, stop pstate.Stop)
	Lost(key pstate.Key, reason string, n uint64)
	End(key pstate.Key, at int64)
}
