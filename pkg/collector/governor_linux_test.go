package collector

import (
	"testing"
	"time"
)

func TestGovernorStepsBeforeTheBudgetAndComesBack(t *testing.T) {
	g := governor{budget: 0.02, floor: 0.001, patience: patienceLeast}
	second := func(share float64) int {
		d := g.judge(time.Duration(share*float64(time.Second)), time.Second, time.Second)
		g.level += d
		return d
	}
	for range 100 {
		if second(0.017) != 0 {
			t.Fatal("stepped below the headroom")
		}
	}
	if second(0.019) != 0 || second(0.019) != 1 {
		t.Error("two windows in a row just under the budget are one step")
	}
	if second(0.05) != 1 {
		t.Error("twice the budget is a step at once")
	}
	for i := range patienceLeast - 1 {
		if second(0.005) != 0 {
			t.Fatalf("came back after %d calm windows", i+1)
		}
	}
	if second(0.005) != -1 || g.level != 1 {
		t.Error("did not come back")
	}
	// Trying more failed at once: the next try takes longer.
	if second(0.05) != 1 || g.patience != 2*patienceLeast {
		t.Errorf("patience is %d", g.patience)
	}
	for range 100 {
		second(0.05)
	}
	if g.level != stepLast {
		t.Errorf("level %d, want the last", g.level)
	}
}

func TestGovernorIgnoresWhatIsTooLittleToMatter(t *testing.T) {
	g := governor{budget: 0.02, floor: 0.001, patience: patienceLeast}
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
