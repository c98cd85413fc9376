package collector

import (
	"math/rand/v2"
	"testing"
	"time"
)

// window lets a second pass in which observing cost a share of the target's CPU time, and steps as a target would.
func (g *governor) window(share float64) int {
	d := g.judge(time.Duration(share*float64(time.Second)), time.Second, time.Second)
	if d != 0 {
		g.reach(g.level + d)
	}
	return d
}

func TestGovernorStepsBeforeTheBudgetAndComesBack(t *testing.T) {
	g := newGovernor(0.02, 0.001)
	for range 100 {
		if g.window(0.017) != 0 {
			t.Fatal("stepped below the headroom")
		}
	}
	if g.window(0.019) != 0 || g.window(0.019) != 1 {
		t.Error("two windows in a row just under the budget are one step")
	}
	if g.window(0.05) != 0 || g.window(0.05) != 1 {
		t.Error("what was seen on the level before counted, or two windows over the budget were not enough")
	}
	// Level 1 has just proved too dear: that is twice the least patience.
	for i := range 2*patienceLeast - 1 {
		if g.window(0.005) != 0 {
			t.Fatalf("came back after %d calm windows", i+1)
		}
	}
	if g.window(0.005) != -1 || g.level != 1 {
		t.Error("did not come back")
	}
	for range 100 {
		g.window(0.05)
	}
	if g.level != stepLast {
		t.Errorf("level %d, want the last", g.level)
	}
	for range 10 * patienceMost {
		g.window(0)
	}
	if g.level != stepNone {
		t.Errorf("level %d after a long calm, want none", g.level)
	}
}

func TestGovernorIgnoresAHiccup(t *testing.T) {
	g := newGovernor(0.02, 0.001)
	for i := range 1000 {
		share := 0.012
		if i%2 == 0 {
			share = 0.3
		}
		if g.window(share) != 0 {
			t.Fatal("a single window made a step")
		}
	}
}

// A level that can itself cost less is not left for the next.
func TestGovernorLetsALevelYield(t *testing.T) {
	g := newGovernor(0.02, 0.001)
	g.yields = true
	for range 10 {
		if g.window(0.1) != 0 {
			t.Fatal("left a level that yields")
		}
	}
	g.yields = false
	if g.window(0.1) != 0 || g.window(0.1) != 1 {
		t.Error("did not leave a level that no longer yields after two windows")
	}
}

// A level that proves too dear is tried again after twice the time, each time.
func TestGovernorWaitsLongerAfterEachFailure(t *testing.T) {
	g := newGovernor(0.02, 0.001)
	waited, last := 0, 0
	for failures := 0; failures < 12; {
		share := 0.03
		if g.level > stepNone {
			share = 0.005
			waited++
		}
		if g.window(share) != 1 {
			continue
		}
		if want := min(2*last, patienceMost); waited < want {
			t.Fatalf("after %d failures it was tried again after %d windows, before that after %d", failures, waited, last)
		}
		last, waited = waited, 0
		failures++
	}
	if last != patienceMost {
		t.Errorf("waits %d windows in the end, want %d", last, patienceMost)
	}
	// What was kept for long is not held against it.
	for range patienceProven*patienceMost + patienceMost + 1 {
		g.window(0.005)
	}
	if g.level != stepNone {
		t.Fatalf("level %d after a long calm", g.level)
	}
	g.window(0.03)
	g.window(0.03)
	if g.level != 1 || g.patience[stepNone] != patienceLeast {
		t.Errorf("level %d with patience %d after a level was kept for long, want 1 with %d", g.level, g.patience[stepNone], patienceLeast)
	}
}

// On a loaded machine the cost of a level swings around the budget, and that of the next lies below. The level must not follow each swing.
func TestGovernorDoesNotFlap(t *testing.T) {
	costs := []float64{0.022, 0.018, 0.014, 0.011, 0.009, 0} // by level
	for seed := range uint64(20) {
		g, r := newGovernor(0.02, 0.001), rand.New(rand.NewPCG(seed, 1))
		var changes [3600]int
		busy := 1.0
		for i := range changes {
			if i%7 == 0 {
				busy = 0.4 + 1.2*r.Float64() // what else runs on the machine
			}
			if d := g.window(costs[g.level] * busy * (0.8 + 0.4*r.Float64())); d != 0 {
				changes[i] = 1
			}
		}
		sum := func(from, to int) (n int) {
			for _, c := range changes[from:to] {
				n += c
			}
			return n
		}
		if n := sum(0, 600); n > 20 {
			t.Errorf("seed %d: %d changes in the first ten minutes", seed, n)
		}
		if n := sum(1800, 3600); n > 18 {
			t.Errorf("seed %d: %d changes in the second half hour", seed, n)
		}
	}
}

func TestGovernorIgnoresWhatIsTooLittleToMatter(t *testing.T) {
	g := newGovernor(0.02, 0.001)
	for range 100 {
		// A process that hardly runs: a third of its 1.5 ms of CPU a second is ours, and half a thousandth of a CPU.
		if g.judge(500*time.Microsecond, 1500*time.Microsecond, time.Second) != 0 {
			t.Fatal("stepped for next to nothing")
		}
	}
	if g.share < 0.3 {
		t.Errorf("the share is %v, want a third", g.share)
	}
}
