//go:build linux

package main

import (
	"math"
	"time"
)

// every is the distance of two samples.
const every = time.Second

// fault is what happened to a rig, as far as the verdict needs it.
type fault struct {
	before []sample // what was kept when it happened
	at     time.Time
	// From down to up no agent ran, or it was stopped; both zero: one ran all the time.
	down, up time.Time
	counted  map[string]float64
	anew     bool // another agent counts losses from nothing
}

// begin notes how things are just before a fault.
func (r *rig) begin() fault { return fault{before: r.samples(), counted: r.losses(), at: time.Now()} }

// verdict waits until the history goes on after a moment and says what the fault cost.
func (r *rig) verdict(f fault, healed time.Time) (*outcome, error) {
	var after []sample
	err := r.waitFor(3*time.Minute, func() bool {
		after = r.samples()
		return len(after) > 2 && after[len(after)-3].at.After(healed)
	})
	if err != nil {
		return nil, err
	}
	o := &outcome{
		Lost:    lost(f, after),
		Gap:     gap(f, after).Seconds(),
		Untrue:  untrue(after, 2),
		Ended:   !r.runs(),
		Counted: map[string]float64{},
	}
	from := f.at
	if !f.up.IsZero() {
		from = f.up
	}
	o.Blind = r.live.longestSince(from).Seconds()
	for reason, n := range r.losses() {
		if !f.anew {
			n -= f.counted[reason]
		}
		o.Counted[reason] = n
	}
	return o, nil
}

// lost counts samples that had been taken and are not kept: those that were there before and are missing now, and those
// that were due while an agent ran and are not there. A sample is due at each full second. One that was due just before
// a kill counts, although it may not have been taken yet.
func lost(f fault, after []sample) (n int) {
	kept := map[int64]bool{}
	for _, s := range after {
		kept[s.at.UnixMilli()] = true
	}
	// Samples that are older than what was asked for now are not missing.
	for _, s := range f.before {
		if !kept[s.at.UnixMilli()] && !s.at.Before(after[0].at) {
			n++
		}
	}
	last := f.at // of what was kept before: from there on nothing is counted twice
	if len(f.before) > 0 {
		last = f.before[len(f.before)-1].at
	}
	for i := 1; i < len(after); i++ {
		from, to := after[i-1].at, after[i].at
		if after[i-1].old || !to.After(last) { // no agent ran between the old history and the first sample
			continue
		}
		if from.Before(last) {
			from = last
		}
		if !f.down.IsZero() && from.Before(f.down) && to.After(f.down) {
			n += int(f.down.Sub(from) / every)
			continue
		}
		// A sample that comes late is not lost.
		n += max(0, int(math.Round(to.Sub(from).Seconds()/every.Seconds()))-1)
	}
	return n
}

// gap is the longest distance of two neighbouring samples since the last one before the fault.
func gap(f fault, after []sample) (longest time.Duration) {
	for i := 1; i < len(after); i++ {
		if after[i].at.After(f.at) && !after[i-1].old {
			longest = max(longest, after[i].at.Sub(after[i-1].at))
		}
	}
	return longest
}

// late is by how much a state may be younger than the time of its sample, in seconds: on a busy machine it is taken
// late.
const late = 0.5

// untrue counts neighbouring samples between which the states of all Ps sum to more than wall time.
func untrue(all []sample, procs int) (n int) {
	for i := 1; i < len(all); i++ {
		if all[i].old || all[i-1].old {
			continue
		}
		said := all[i].sum - all[i-1].sum // less than nothing: another agent counts anew
		wall := all[i].at.Sub(all[i-1].at).Seconds() * float64(procs)
		if said > wall*1.01+late*float64(procs) {
			n++
		}
	}
	return n
}
