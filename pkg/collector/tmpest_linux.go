package collector

import (
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// counters is how many of a record's counters are extrapolated: see eachCounter.
const counters = len(kern.ScopeP_record{}.Time) + len(kern.ScopeP_record{}.Moves) + len(kern.ScopeP_record{}.Samples) + len(kern.ScopeP_record{}.Wake) + 2

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

// rates are what happens to a P in stretches in which something does.
type rates struct {
	counts [counters]float64
	span   float64 // ticks of these stretches
}

// add takes in what counters have grown by in a stretch.
func (r *rates) add(grown *[counters]float64, span float64) {
	for i, n := range grown {
		r.counts[i] += n
	}
	r.span += span
}

// fade lets what was learnt count for less.
func (r *rates) fade() {
	for i := range r.counts {
		r.counts[i] *= ratesKept
	}
	r.span *= ratesKept
}

// paces are stretches by how often a P was given something else to do in them, in powers of four times a tenth of a
// second. How long a P is busy goes with that, and it changes from one moment to the next, which counters of the
// runtime tell at any time.
type paces [12]*rates

// paceOf is the index among them of a stretch in which a P's counters have moved by so many.
func paceOf(moved uint32, span uint64) int {
	rate := float64(moved) * float64(observedSecond/10) / float64(max(span, 1))
	return min((bits.Len32(uint32(min(rate, math.MaxInt32)))+1)/2, len(paces{})-1)
}

func (p *paces) add(pace int, grown *[counters]float64, span float64) {
	if p[pace] == nil {
		p[pace] = new(rates)
	}
	p[pace].add(grown, span)
}

func (p *paces) fade() {
	for _, r := range p {
		if r != nil {
			r.fade()
		}
	}
}

// windowedP is what a P is estimated by.
type windowedP struct {
	// Of the snapshot before.
	schedTick, syscallTick uint32
	state                  pstate.State
	tid                    uint32

	from   uint64           // tick up to which its record is accounted for, in a window: at which the counters below were read
	before [counters]uint64 // readings
	all    rates            // of whatever pace
	paces  paces
	owed   [counters]float64 // fractions that have not been added yet
}

// since says whether nothing has happened to a P since the snapshot before, and by how much its counters moved, and
// remembers what this one says.
func (w *windowedP) since(seen *goruntime.PSnapshot, tid uint32) (quiet bool, moved uint32) {
	moved = seen.SchedTick - w.schedTick + seen.SyscallTick - w.syscallTick
	quiet = moved == 0 && w.state == seen.State && w.tid == tid
	w.schedTick, w.syscallTick, w.state, w.tid = seen.SchedTick, seen.SyscallTick, seen.State, tid
	return quiet, moved
}

// look reads the counters, at one instant as far as times go, and what they have grown by into grown, in ticks and
// events.
func (w *windowedP) look(r *kern.ScopeP_record, grown *[counters]float64) {
	v, _ := ledger.Read(r)
	w.from = v.Now
	eachCounter(r, func(i int, c *uint64) {
		n := atomic.LoadUint64(c)
		if i < timeCells {
			n = v.Time[i]
		}
		if grown != nil {
			grown[i] = float64(int64(n - w.before[i])) // a time may shrink: see ledger
		}
		w.before[i] = n
	})
}

// extrapolate adds to a record what came to pass in the ticks span, in all likelihood.
func (w *windowedP) extrapolate(r *kern.ScopeP_record, by *rates, span uint64) {
	scale := float64(span) / by.span
	given, largest := uint64(0), 0
	eachCounter(r, func(i int, c *uint64) {
		x := max(by.counts[i], 0)*scale + w.owed[i]
		n := uint64(max(x, 0))
		if i < timeCells {
			n = min(n, span-given) // the sum is the time that passed, exactly
			given += n
			if by.counts[i] > by.counts[largest] {
				largest = i
			}
		}
		w.owed[i] = x - float64(n)
		atomic.AddUint64(c, n)
	})
	atomic.AddUint64(&r.Time[largest], span-given)
	w.owed[largest] -= float64(span - given)
}
