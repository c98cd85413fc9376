package ledger

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/p-scope/p-scope/pkg/pstate"
)

func sum(m *Matrix) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// Whatever the kernel side corrects backwards, what is exported never decreases and always sums to the time that has
// passed.
func TestLedgerNeverDecreasesAndSumsToWall(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		var l Ledger
		var raw, before Matrix
		var samples [2]uint64
		for step := range 200 {
			raw[rnd.IntN(len(raw))] += uint64(rnd.IntN(5000))
			if rnd.IntN(3) == 0 { // a correction: part of one cell was another's
				from, to := rnd.IntN(len(raw)), rnd.IntN(len(raw))
				x := min(raw[from], uint64(rnd.IntN(3000)))
				raw[from] -= x
				raw[to] += x
			}
			samples[rnd.IntN(2)] += 700 * uint64(rnd.IntN(3))
			shown := *l.Show(raw, samples)
			for i := range shown {
				if shown[i] < before[i] {
					t.Fatalf("seed %d step %d: cell %d fell from %d to %d", seed, step, i, before[i], shown[i])
				}
			}
			if sum(&shown) != sum(&raw) {
				t.Fatalf("seed %d step %d: shown sums to %d, %d have passed", seed, step, sum(&shown), sum(&raw))
			}
			before = shown
		}
	}
}

// A P that is on a CPU all the time and in a syscall for a third of it: the samples must give a third, however short
// the views' windows.
func TestLedgerSplitsBySamples(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var l Ledger
	var raw Matrix
	var samples [2]uint64
	const period, window = 1000, 137
	next := uint64(period)
	for raw[onCPUGo] < 5_000_000 {
		raw[onCPUGo] += window
		for ; next <= raw[onCPUGo]; next += period {
			switch rnd.IntN(6) {
			case 0, 1:
				samples[0] += period
			case 2:
				samples[1] += period
			}
		}
		l.Show(raw, samples)
	}
	total := float64(raw[onCPUGo])
	for i, want := range []float64{2.0 / 6, 1.0 / 6} {
		if got := float64(l.shown[onCPUIn[i]]) / total; math.Abs(got-want) > 0.02 {
			t.Errorf("%v: share %.3f, want %.3f", pstate.State(onCPUIn[i]/pstate.NumThreadStates), got, want)
		}
	}
}
