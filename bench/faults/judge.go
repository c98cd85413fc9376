//go:build linux

package main

import "time"

// every is the distance of two samples.
const every = time.Second

// fault is what happened to a rig, as far as the verdict needs it.
type fault struct {
	before []sample // what was kept when it happened
	at     time.Time
	// From down to up no agent ran; both zero: one ran all the time.
	down, up time.Time
	counted  map[string]float64
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
		Lost:    lost(f, after).Seconds(),
		Untrue:  untrue(after, 2),
		Ended:   f.down.IsZero() && !r.runs(),
		Counted: map[string]float64{},
	}
	from := f.at
	if !f.up.IsZero() {
		from = f.up
	}
	o.Blind = r.live.longestSince(from).Seconds()
	for reason, n := range r.losses() {
		if f.up.IsZero() {
			n -= f.counted[reason]
		}
		o.Counted[reason] = n
	}
	return o, nil
}

// lost is the time without samples: those that were there before and are not any more, and gaps since, less the time in
// which no agent ran.
func lost(f fault, after []sample) (sum time.Duration) {
	kept := map[int64]bool{}
	for _, s := range after {
		kept[s.at.UnixMilli()] = true
	}
	// Samples that are older than what was asked for now are not missing.
	for _, s := range f.before {
		if !kept[s.at.UnixMilli()] && !s.at.Before(after[0].at) {
			sum += every
		}
	}
	for i := 1; i < len(after); i++ {
		from, to := after[i-1].at, after[i].at
		if to.Before(f.at) {
			continue
		}
		gap := to.Sub(from) - every
		if !f.up.IsZero() && from.Before(f.down) && to.After(f.up) {
			gap -= f.up.Sub(f.down)
		}
		// A sample that comes late is not lost.
		if gap > every/2 {
			sum += gap
		}
	}
	return sum
}

// late is by how much a state may be younger than the time of its sample, in seconds: on a busy machine it is taken
// late.
const late = 0.5

// untrue counts neighbouring samples between which the states of all Ps sum to more than wall time.
func untrue(all []sample, procs int) (n int) {
	for i := 1; i < len(all); i++ {
		said := all[i].sum - all[i-1].sum // less than nothing: another agent counts anew
		wall := all[i].at.Sub(all[i-1].at).Seconds() * float64(procs)
		if said > wall*1.01+late*float64(procs) {
			n++
		}
	}
	return n
}
