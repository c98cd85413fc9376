package collector

import (
	"slices"
	"time"
)

// refill lets each target send raw intervals again, of which what it sent since the last time does not count any more.
// Only the budget of one target would leave the agent with as many intervals as there are targets, however many those
// are: so all of them together have one as well, of which nobody gets more than an equal share as long as another wants
// it. The caller holds drainMu.
func (c *collect) refill(byIndex indexed, now time.Time) {
	since := min(now.Sub(c.refilled), time.Second).Seconds()
	if since < drainEvery.Seconds()/2 {
		return // what a moment lasts is no measure of what is wanted
	}
	c.refilled = now
	c.wanted = c.wanted[:0]
	for _, o := range byIndex {
		if o == nil {
			continue
		}
		c.wanted = append(c.wanted, float64(o.NewIntervals())/since)
	}
	n := uint64(fairShare(float64(c.o.HostIntervalBudget), float64(c.o.IntervalBudget), c.wanted) * since)
	for _, o := range byIndex {
		if o == nil {
			continue
		}
		o.AllowIntervals(max(n, 1))
	}
}

// fairShare is what each of those who want something may have of a total, and most at most: those who want less leave
// the rest to the others. It reorders wanted.
func fairShare(total, most float64, wanted []float64) float64 {
	slices.Sort(wanted)
	for i, w := range wanted {
		w = min(w, most)
		if fair := total / float64(len(wanted)-i); w > fair {
			return fair
		}
		total -= w
	}
	return most
}
