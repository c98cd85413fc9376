package collector

import (
	"time"

	"github.com/p-scope/p-scope/pkg/collector/ledger"
)

// govern measures what observing costs each target, and steps down or up.
func (c *collect) govern() {
	if c.kernel == nil || c.o.CostBudget < 0 {
		return
	}
	for _, o := range c.all() {
		if o.Index() == 0 || !o.GovernDue() {
			continue
		}
		stat, err := c.o.proc().Stat(o.PID())
		if err != nil {
			continue // it is ending
		}
		o.Govern(stat.CPU)
	}
}

// readCgroups brings what the control groups of every target say up to date.
func (c *collect) readCgroups(now time.Time) {
	for _, o := range c.all() {
		o.ReadCgroup(now)
	}
}

// resume brings everything up to date after a pause that began at since, CLOCK_MONOTONIC.
func (c *collect) resume(since int64) {
	h := &c.heart
	h.Resuming.Store(true)
	defer h.Resuming.Store(false)
	h.Pauses.Add(1) // before the targets are listed: see discover.Finder
	from := uint64(since) >> ledger.TickShift
	all := c.all()
	// No event must meet a record that is out of date. The programs still do nothing.
	for _, o := range all {
		o.Suspend()
	}
	c.drain() // what was sent before
	now := ledger.Monotonic()
	h.Set(now)
	for _, o := range all {
		if err := o.Resume(from); err != nil {
			c.ended(o, err)
		}
	}
	c.found.FellBehind() // no exec was reported
	c.o.Log.Warn("the agent was not running for a while: it was stopped, or got no CPU. Nothing is known of this "+
		"time, "+
		"and no total contains it",
		"from", time.Unix(0, c.clock.Unix(from)), "for", time.Duration(now-since), "targets", len(all))
}

// sampleAsNeeded lets targets whose lags are not known well yet be sampled more often.
func (c *collect) sampleAsNeeded(now time.Time) {
	if c.kernel == nil {
		return
	}
	more := false
	for _, o := range c.all() {
		more = more || o.WantsSamples()
	}
	if err := c.kernel.Samples.Adjust(more, now); err != nil {
		c.o.Log.Warn("the rate of the samples could not be changed", "err", err)
	}
}
