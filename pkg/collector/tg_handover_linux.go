package collector

// keep remembers closed segments until the next flush. The caller holds mu.
func (o *observed) keep(p *observedP, closed ...segment) {
	if n := p.intervals.keep(closed...); n > 0 {
		o.lost["pending_full"] += n
	}
}

// take appends the P's closed intervals to the scratch list. The caller holds mu.
func (o *observed) take(p *observedP, raw *totals, last bool) {
	var late uint64
	if o.scratch, late = p.intervals.take(o.scratch, p.id, o.env.clock, raw, last); late > 0 {
		o.lost["late_interval"] += late
	}
}
