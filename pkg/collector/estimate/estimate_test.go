package estimate

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/pstate"
)

func TestActivityOf(t *testing.T) {
	tenth := second / 10
	for _, c := range []struct {
		moved uint32
		span  uint64
		want  int
	}{
		{0, tenth, 0}, {1, tenth, 1}, {3, tenth, 1}, {4, tenth, 2}, {16, tenth, 3}, {32, 2 * tenth, 3},
		{15, 2 * tenth, 2},
		{1 << 31, tenth, 11}, {5, 0, 11}, {4, 10 * tenth, 0},
	} {
		if got := activityOf(c.moved, c.span); got != c.want {
			t.Errorf("%d in %d ticks: activity %d, want %d", c.moved, c.span, got, c.want)
		}
	}
}

// A stretch is judged by the P's own stretches with its activity, then by those of the others, then by its own with
// any.
func TestRatesFor(t *testing.T) {
	p, all := new(P), new(ByActivity)
	if p.ratesFor(3, all) != nil {
		t.Error("something is likely before anything was seen")
	}
	var grown [counters]float64
	p.all.add(&grown, minSpan)
	if p.ratesFor(3, all) != &p.all {
		t.Error("not its own with any activity")
	}
	all.add(3, &grown, minSpan)
	if p.ratesFor(3, all) != all[3] || p.ratesFor(2, all) != &p.all {
		t.Error("not that of all Ps with this activity")
	}
	p.own.add(3, &grown, minSpan/2)
	if p.ratesFor(3, all) != all[3] {
		t.Error("too little counts")
	}
	p.own.add(3, &grown, minSpan/2)
	if p.ratesFor(3, all) != p.own[3] {
		t.Error("not its own with this activity")
	}
	p.own.Fade()
	if p.ratesFor(3, all) != all[3] {
		t.Error("what fades counts as much as before")
	}
}

// What is added is the time that passed, to the tick, and in the long run in the proportions of what was learnt; counts
// likewise.
func TestExtrapolate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	running, idle := ledger.Cell(pstate.Running, pstate.OnCPU), ledger.Cell(pstate.Idle, pstate.NoThread)
	syscall := ledger.Cell(pstate.Syscall, pstate.Sleeping)
	p, by := new(P), &Rates{span: 1000}
	by.counts[running], by.counts[idle] = 301.5, 700.5
	by.counts[syscall] = -2    // a total that was corrected backwards
	by.counts[timeCells] = 0.7 // of some move, in 1000 ticks
	rec := &kern.ScopeP_record{}
	var all uint64
	for range 10_000 {
		span := r.Uint64N(3000)
		p.extrapolate(rec, by, span)
		all += span
		var sum uint64
		for _, n := range rec.Time {
			sum += n
		}
		if sum != all {
			t.Fatalf("%d ticks passed, %d were added", all, sum)
		}
	}
	for at, want := range map[int]float64{running: 0.3, idle: 0.7, syscall: 0} {
		if got := float64(rec.Time[at]) / float64(all); math.Abs(got-want) > 0.002 {
			t.Errorf("cell %d has a share of %.4f, want %.4f", at, got, want)
		}
	}
	if got, want := float64(rec.Moves[0]), 0.7*float64(all)/1000; math.Abs(got-want) > 2 {
		t.Errorf("%v moves, want %v", got, want)
	}
}
