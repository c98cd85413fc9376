package timeline

import (
	"math/rand/v2"
	"testing"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// random makes intervals of one P with gaps, bursts and, now and then, a rare short state.
func random(rng *rand.Rand, n int) []pstate.Interval {
	ivs := make([]pstate.Interval, 0, n)
	at := rng.Int64N(1e9)
	for range n {
		d := 1 + rng.Int64N(1000)
		switch rng.IntN(20) {
		case 0:
			d *= 10_000
		case 1:
			at += rng.Int64N(1e6)
		}
		iv := pstate.Interval{P: 1, State: pstate.State(rng.IntN(2)), Thread: pstate.ThreadState(rng.IntN(3)),
			Start: at, End: at + d}
		if rng.IntN(100) == 0 {
			iv.State, iv.Thread = pstate.GCStop, pstate.NoThread
		}
		if rng.IntN(200) == 0 {
			iv.Thread = pstate.Uninterruptible
		}
		ivs = append(ivs, iv)
		at += d
	}
	return ivs
}

type pair struct {
	s pstate.State
	t pstate.ThreadState
}

func totals(ivs []pstate.Interval) map[pair]int64 {
	m := make(map[pair]int64)
	for _, iv := range ivs {
		m[pair{iv.State, iv.Thread}] += iv.End - iv.Start
	}
	return m
}

// checkMerge says what every outcome of Merge must satisfy.
func checkMerge(t *testing.T, in, out []pstate.Interval, limit int) {
	t.Helper()
	if len(out) > limit {
		t.Fatalf("%d intervals, the limit is %d", len(out), limit)
	}
	for i, iv := range out {
		if iv.End <= iv.Start {
			t.Fatalf("interval %d is empty or backwards: %+v", i, iv)
		}
		if i > 0 && iv.Start < out[i-1].End {
			t.Fatalf("interval %d overlaps the one before: %+v, %+v", i, out[i-1], iv)
		}
	}
	if len(in) == 0 {
		return
	}
	if out[0].Start < in[0].Start || out[len(out)-1].End > in[len(in)-1].End {
		t.Fatalf("[%d, %d] leaves the range [%d, %d]", out[0].Start, out[len(out)-1].End, in[0].Start,
			in[len(in)-1].End)
	}
	want, got := totals(in), totals(out)
	if len(want) <= limit {
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("%v/%v: %d ns before, %d ns after", k.s, k.t, v, got[k])
			}
		}
	}
	var before, after int64
	for _, v := range want {
		before += v
	}
	for _, v := range got {
		after += v
	}
	if before != after {
		t.Fatalf("%d ns before, %d ns after", before, after)
	}
}

func TestMergeKeepsTimeByState(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 150 {
		in := random(rng, 1+rng.IntN(2000))
		limit := 1 + rng.IntN(300)
		checkMerge(t, in, Merge(append([]pstate.Interval(nil), in...), limit), limit)
	}
}

func TestMergeUsesTheLimit(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	in := random(rng, 50_000)
	if out := Merge(append([]pstate.Interval(nil), in...), 1000); len(out) < 500 {
		t.Errorf("only %d of 1000 intervals used", len(out))
	}
}

func TestMergeLeavesFewAlone(t *testing.T) {
	in := run(0, 0, 10, 100)
	out := Merge(append([]pstate.Interval(nil), in...), 10)
	for i := range in {
		if in[i] != out[i] {
			t.Fatalf("changed: %+v", out[i])
		}
	}
}

func TestMergeKeepsRareStatesVisible(t *testing.T) {
	// Six minutes of 1 ms work with one 20 µs stop and one 20 µs of D, asked for in 50 intervals.
	in := run(0, 0, 360_000, 1e6)
	in[100_000].State, in[100_000].End = pstate.GCStop, in[100_000].Start+20_000
	in[200_001].Thread, in[200_001].End = pstate.Uninterruptible, in[200_001].Start+20_000
	out := Merge(append([]pstate.Interval(nil), in...), 50)
	checkMerge(t, in, out, 50)
	var stop, d bool
	for _, iv := range out {
		if iv.State == pstate.GCStop {
			stop = iv.Merged && iv.End-iv.Start == 20_000
			if off := in[100_000].Start - iv.Start; off < -20e9 || off > 20e9 {
				t.Errorf("the stop moved by %d ns, more than a window", off)
			}
		}
		d = d || iv.Thread == pstate.Uninterruptible && iv.Merged
	}
	if !stop || !d {
		t.Errorf("stop kept: %v, D kept: %v", stop, d)
	}
}

func TestMergeBelowTheNumberOfPairsDropsTheRareLast(t *testing.T) {
	in := []pstate.Interval{
		{State: pstate.Running, Thread: pstate.OnCPU, Start: 0, End: 1000},
		{State: pstate.Idle, Thread: pstate.NoThread, Start: 1000, End: 1500},
		{State: pstate.GCStop, Thread: pstate.NoThread, Start: 1500, End: 1501},
		{State: pstate.Syscall, Thread: pstate.OnCPU, Start: 1501, End: 1700},
	}
	out := Merge(append([]pstate.Interval(nil), in...), 2)
	checkMerge(t, in, out, 2)
	if out[0].State != pstate.Running || out[1].State != pstate.GCStop {
		t.Errorf("got %+v", out)
	}
}

func TestMergeOfAQuietRangeStaysExact(t *testing.T) {
	// Busy at first, then quiet: the quiet half must keep exact boundaries.
	in := append(run(0, 0, 10_000, 1000), run(0, 10_000_000, 5, 2_000_000)...)
	out := Merge(append([]pstate.Interval(nil), in...), 100)
	checkMerge(t, in, out, 100)
	exact := 0
	for _, iv := range out {
		if !iv.Merged && iv.Start >= 12_000_000 && (iv.End-iv.Start) == 2_000_000 {
			exact++
		}
	}
	if exact < 3 {
		t.Errorf("%d exact intervals in the quiet half: %+v", exact, out)
	}
}

func FuzzMerge(f *testing.F) {
	f.Add(uint64(1), uint16(100), uint8(10))
	f.Add(uint64(2), uint16(5), uint8(1))
	f.Add(uint64(3), uint16(2000), uint8(255))
	f.Fuzz(func(t *testing.T, seed uint64, n uint16, limit uint8) {
		defer fuzztest.Bound(t, fuzztest.Small, int(n))()
		if n == 0 || limit == 0 {
			return
		}
		in := random(rand.New(rand.NewPCG(seed, 1)), int(n)%5000+1)
		checkMerge(t, in, Merge(append([]pstate.Interval(nil), in...), int(limit)), int(limit))
	})
}

func BenchmarkMergeAnHour(b *testing.B) {
	in := random(rand.New(rand.NewPCG(1, 1)), 500_000)
	scratch := make([]pstate.Interval, len(in))
	for b.Loop() {
		copy(scratch, in)
		Merge(scratch, 1000)
	}
}
