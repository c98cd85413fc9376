// Package estimate says how the time of a P passed while it was not observed, by what was learnt while it was.
//
// The runtime counts for each P how often it was given something else to do, and that can be read at any time. Where
// the counts have not moved, nothing has happened. Where they have, the time is estimated to have passed as it did in
// those observed stretches in which as much happened.
package estimate

import (
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/pstate"
)

const (
	second  = uint64(1e9) >> ledger.TickShift
	minSpan = float64(second) / 4 // ticks of stretches from which on they are worth something
	kept    = 0.5                 // of what earlier observed seconds have taught, with each new one
)

// counters is how many of a record's counters are extrapolated: see eachCounter.
const counters = len(kern.ScopeP_record{}.Time) + len(kern.ScopeP_record{}.Moves) +
	len(kern.ScopeP_record{}.Samples) + len(kern.ScopeP_record{}.Wake) + 2

// timeCells come first among them.
const timeCells = len(kern.ScopeP_record{}.Time)

// eachCounter calls fn for what is counted of a P: times by state first.
func eachCounter(r *kern.ScopeP_record, fn func(i int, c *uint64)) {
	i := 0
	for _, part := range [...][]uint64{r.Time[:], r.Moves[:], r.Samples[:], r.Wake[:]} {
		for k := range part {
			fn(i, &part[k])
			i++
		}
	}
	fn(i, &r.WakeSum)
	fn(i+1, &r.StopTime)
}

// Rates are what happens to a P in stretches in which something does.
type Rates struct {
	counts [counters]float64
	span   float64 // ticks of these stretches
}

// add takes in what counters have grown by in a stretch.
func (r *Rates) add(grown *[counters]float64, span float64) {
	for i, n := range grown {
		r.counts[i] += n
	}
	r.span += span
}

// fade lets what was learnt count for less.
func (r *Rates) fade() {
	for i := range r.counts {
		r.counts[i] *= kept
	}
	r.span *= kept
}

// ByActivity are stretches by how often a P was given something else to do in them, in powers of four times a tenth of
// a second. How long a P is busy goes with that, and it changes from one moment to the next.
type ByActivity [12]*Rates

// activityOf is the index among them of a stretch in which a P's counters have moved by so many.
func activityOf(moved uint32, span uint64) int {
	rate := float64(moved) * float64(second/10) / float64(max(span, 1))
	return min((bits.Len32(uint32(min(rate, math.MaxInt32)))+1)/2, len(ByActivity{})-1)
}

func (p *ByActivity) add(activity int, grown *[counters]float64, span float64) {
	if p[activity] == nil {
		p[activity] = new(Rates)
	}
	p[activity].add(grown, span)
}

// Fade lets what was learnt count for less.
func (p *ByActivity) Fade() {
	for _, r := range p {
		if r != nil {
			r.fade()
		}
	}
}

// Sight is what a snapshot says of a P.
type Sight struct {
	SchedTick, SyscallTick uint32
	State                  pstate.State
	TID                    uint32 // the thread that carries it; 0 if none does
}

// P is what a P is estimated by.
type P struct {
	last Sight // by the snapshot before

	// from is up to which tick its record is accounted for: in an observed second, at which the counters were read.
	from   uint64
	before [counters]uint64 // readings
	all    Rates            // whatever its activity
	own    ByActivity
	rest   [counters]float64 // fractions that have not been added yet
}

// NewP begins to learn about a P with this record, whose counters in the runtime are as in last.
func NewP(r *kern.ScopeP_record, last Sight) *P {
	p := &P{last: last}
	p.read(r, nil)
	return p
}

// Observe says that the P is observed again from now on.
func (p *P) Observe(r *kern.ScopeP_record) {
	p.all.fade()
	p.own.Fade()
	p.read(r, nil)
}

// Restart says that nothing is known of the time until the tick now, when the P was as in last.
func (p *P) Restart(r *kern.ScopeP_record, last Sight, now uint64) {
	p.read(r, nil)
	p.last, p.from = last, now
}

// sees says whether nothing has happened to a P since the snapshot before, and by how much its counters moved, and
// remembers what this one says.
func (p *P) sees(s Sight) (quiet bool, moved uint32) {
	moved = s.SchedTick - p.last.SchedTick + s.SyscallTick - p.last.SyscallTick
	quiet = moved == 0 && p.last.State == s.State && p.last.TID == s.TID
	p.last = s
	return quiet, moved
}

// read reads the counters, at one instant as far as times go, and what they have grown by into grown, in ticks and
// events.
func (p *P) read(r *kern.ScopeP_record, grown *[counters]float64) {
	v, _ := ledger.Read(r)
	p.from = v.Now
	eachCounter(r, func(i int, c *uint64) {
		n := atomic.LoadUint64(c)
		if i < timeCells {
			n = v.Time[i]
		}
		if grown != nil {
			grown[i] = float64(int64(n - p.before[i])) // a time may shrink: see ledger
		}
		p.before[i] = n
	})
}

// Learn takes in an observed stretch, at the end of which a snapshot saw this. all are the rates of all Ps of the
// process.
func (p *P) Learn(r *kern.ScopeP_record, seen Sight, all *ByActivity) {
	from := p.from
	quiet, moved := p.sees(seen)
	if quiet {
		p.read(r, nil)
		return
	}
	var grown [counters]float64
	p.read(r, &grown)
	span := p.from - from
	activity := activityOf(moved, span)
	p.all.add(&grown, float64(span))
	p.own.add(activity, &grown, float64(span))
	all.add(activity, &grown, float64(span))
}

// Estimate is how a stretch in which a P was not observed has passed.
type Estimate struct {
	Quiet bool   // nothing happened in it
	From  uint64 // tick at which it began
	rates *Rates
}

// Known says whether anything is known of such a stretch that ends at the tick now.
func (e *Estimate) Known(now uint64) bool { return e.rates != nil && e.From < now }

// Pass ends a stretch in which the P was not observed, at the tick now, with what a snapshot saw then. It began no
// earlier than since.
func (p *P) Pass(seen Sight, since, now uint64, all *ByActivity) (e Estimate) {
	quiet, moved := p.sees(seen)
	e.Quiet, e.From = quiet, max(p.from, since)
	p.from = now
	e.rates = p.ratesFor(activityOf(moved, now-min(e.From, now)), all)
	return e
}

// ratesFor gives the rates that say most of a stretch of a P: its own with this activity, those of all Ps with this
// activity, its own with any. nil if nothing is known.
func (p *P) ratesFor(activity int, all *ByActivity) *Rates {
	for _, r := range [...]*Rates{p.own[activity], all[activity], &p.all} {
		if r != nil && r.span >= minSpan {
			return r
		}
	}
	return nil
}

// Add adds to a record what the estimate says of the stretch that ends at the tick now.
func (p *P) Add(r *kern.ScopeP_record, e Estimate, now uint64) { p.extrapolate(r, e.rates, now-e.From) }

// extrapolate adds what came to pass in so many ticks, in all likelihood.
func (p *P) extrapolate(r *kern.ScopeP_record, by *Rates, span uint64) {
	scale := float64(span) / by.span
	given, largest := uint64(0), 0
	eachCounter(r, func(i int, c *uint64) {
		x := max(by.counts[i], 0)*scale + p.rest[i]
		n := uint64(max(x, 0))
		if i < timeCells {
			n = min(n, span-given) // the sum is the time that passed, exactly
			given += n
			if by.counts[i] > by.counts[largest] {
				largest = i
			}
		}
		p.rest[i] = x - float64(n)
		atomic.AddUint64(c, n)
	})
	atomic.AddUint64(&r.Time[largest], span-given)
	p.rest[largest] -= float64(span - given)
}
