package target

import "github.com/p-scope/p-scope/pkg/loss"

import "github.com/p-scope/p-scope/pkg/collector/ledger"

// keep remembers closed segments until the next flush. The caller holds mu.
func (o *Target) keep(p *P, closed ...ledger.Segment) {
	if n := p.intervals.Keep(closed...); n > 0 {
		o.lost[loss.PendingFull] += n
	}
}

// take appends the P's closed intervals to the scratch list. The caller holds mu.
func (o *Target) take(p *P, raw *ledger.Totals, last bool) {
	var late uint64
	if o.scratch, late = p.intervals.Take(o.scratch, p.id, o.env.Clock, raw, last); late > 0 {
		o.lost[loss.LateInterval] += late
	}
}
