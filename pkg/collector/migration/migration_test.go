package migration

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// A target that has 1000 migrations a second in a tenth of its time, at random, and none in between; windows of busy
// moments cost more and so are followed by longer waits. Were each window's rate held until the next, its busy moments
// would count for more than they are.
func TestExtrapolationIsUnbiased(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var e extrapolated
	var held, total, last float64
	wait := time.Second
	for range 20000 {
		rate := 0.0
		if rng.IntN(10) == 0 {
			rate = 1000
		}
		for at := time.Duration(0); at < wait; at += wait / 3 {
			if n := e.at(at); n < last {
				t.Fatalf("%v after %v", n, last)
			} else {
				last = n
			}
		}
		e.close(rate, wait)
		total += wait.Seconds()
		wait = time.Second + time.Duration(rate)*9*time.Millisecond
		held += rate * wait.Seconds()
	}
	if got := e.shown / total; math.Abs(got-100) > 10 {
		t.Errorf("%.1f migrations a second, want 100", got)
	}
	if held/total < 400 {
		t.Errorf("the plain way gives %.1f: this test shows nothing", held/total)
	}
}

func TestExtrapolationHoldsTheRateAndRests(t *testing.T) {
	var e extrapolated
	e.close(100, 100*time.Millisecond)
	if n := e.at(0); n != 10 {
		t.Errorf("%v after the first window, want what was in it", n)
	}
	if n := e.at(2 * time.Second); n != 210 {
		t.Errorf("%v two seconds later", n)
	}
	// There were fewer than was thought: the count waits for them.
	e.close(50, 2*time.Second)
	if n := e.at(time.Second); n != 210 {
		t.Errorf("%v: it must not go on before what is known has come up to it", n)
	}
	if n := e.at(3 * time.Second); n != 260 {
		t.Errorf("%v, want 260", n)
	}
	e.rest(3 * time.Second)
	if n := e.at(time.Hour); n != 260 {
		t.Errorf("%v while nothing is counted", n)
	}
}

// Goroutines that start every gap, on another P each time: whatever the gap, their rate is what comes out.
func TestRateCorrectsForTheWindowsEdges(t *testing.T) {
	const length = 100 * time.Millisecond
	rng := rand.New(rand.NewPCG(3, 4))
	for _, gap := range []time.Duration{100 * time.Microsecond, 10 * time.Millisecond, 45 * time.Millisecond,
		70 * time.Millisecond} {
		for _, ended := range []time.Duration{length, length - 2*time.Millisecond} {
			sum, n := 0.0, 4000
			for range n {
				var c startCounts
				for at := time.Duration(rng.Int64N(int64(gap))) + gap; at < ended; at += gap {
					i := int(gap * time.Duration(migrationGaps) / length)
					c.came[i]++
					c.gaps[i] += uint64(gap)
				}
				rate, _ := c.rate(ended, length)
				sum += rate
			}
			want := 1 / gap.Seconds()
			if ended < length && gap > 50*time.Millisecond {
				want = 0 // the last eighth that is still looked at has become too long
			}
			if got := sum / float64(n); math.Abs(got-want) > 0.03*want {
				t.Errorf("a start every %v in windows of %v: %.2f a second, want %.2f", gap, ended, got, want)
			}
		}
	}
}

// pacing lets windows cost a part of the CPU time of a target, and gives the share of it they took and the time between
// them.
func pacing(p *pace, seconds, cpus, intensity, budget, floor float64) (share float64, between time.Duration,
	windows int, ok bool) {
	const step = 10 * time.Millisecond
	var spent, used float64
	for now := 0.0; now < seconds; now += step.Seconds() {
		p.pass(step, time.Duration(cpus*float64(step)), budget, floor)
		used += cpus * step.Seconds()
		length := p.length()
		wait, ok := p.wait(length)
		if !ok {
			return spent / used, 0, windows, false
		}
		if wait == 0 {
			cost := SetupCost + time.Duration(intensity*cpus*float64(length))
			p.pay(cost, length)
			spent += cost.Seconds()
			windows++
		}
	}
	return spent / used, time.Duration(seconds / float64(max(1, windows)) * float64(time.Second)), windows, true
}

func TestPaceKeepsTheBudget(t *testing.T) {
	for _, c := range []struct {
		name            string
		cpus, intensity float64
	}{{"one CPU of channels", 1, 0.7}, {"16 CPUs of channels", 16, 0.7}, {"a server", 2, 0.05},
		{"hardly any starts", 1, 0.001}} {
		share, between, n, ok := pacing(&pace{}, 300, c.cpus, c.intensity, 0.02, 0.001)
		if !ok || share > 0.021 || n < 20 {
			t.Errorf("%s: %.2f %% in %d windows, one in %v, %v", c.name, 100*share, n, between, ok)
		}
		t.Logf("%s: %.2f %% in %d windows, one in %v", c.name, 100*share, n, between.Round(time.Millisecond))
	}
}

func TestPaceGivesUpWhereNothingIsLeft(t *testing.T) {
	if _, _, n, ok := pacing(&pace{}, 300, 4, 0.7, 0.0001, 0.0005); ok || n > 1 {
		t.Errorf("went on with %d windows", n)
	}
	// Next to nothing is enough for a process that does next to nothing.
	if _, _, n, ok := pacing(&pace{}, 300, 0.01, 0.3, 0.0001, 0.001); !ok || n == 0 {
		t.Errorf("gave up after %d windows", n)
	}
}

func TestPaceForgetsWhatItDidNotNeed(t *testing.T) {
	p := &pace{}
	pacing(p, 30, 1, 0.7, 0.02, 0)
	for range 100 {
		p.pass(time.Minute, time.Minute, 0.02, 0)
		p.wait(p.length())
	}
	if p.credit > p.expected(p.length()) {
		t.Errorf("it has saved %v", p.credit)
	}
}
