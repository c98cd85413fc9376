package migration

import "time"

const (
	minWindow  = 100 * time.Millisecond
	maxWindow  = 2 * time.Second
	windowCost = 20 * time.Millisecond // of CPU time, which a window is made long enough for, within these bounds
	windowLook = 25 * time.Millisecond // how often it is looked whether a window costs more than was expected
	windowOver = 4                     // times that, and it ends early
	windowGap  = time.Second           // between two windows at least, on average

	// maxWait is for how long the budget may have to be saved for one of the shortest windows; if that is not enough,
	// tier 2 is switched off.
	maxWait = 2 * time.Minute
	offFor  = 10 * time.Minute // after which it is tried again

	// maxGap is the part of a window beyond which the time between two starts of a goroutine is too long for it: what
	// is seen of such pairs would have to stand for four times as many and more.
	maxGap = 0.75

	// SetupCost is what putting the probe into the target's code and taking it out costs, which the target's threads
	// may have to wait for.
	SetupCost = 200 * time.Microsecond
)

// pace decides when a window may be, and how long.
type pace struct {
	credit    time.Duration // of CPU time, earned and not yet spent; what was spent before it was earned is owed
	earns     float64       // credit per second
	uses      float64       // of the target: CPU seconds per second
	intensity float64       // which part of the target's CPU time a window costs while it lasts
	begun     bool          // uses and earns are known
	tried     bool          // intensity is known

	paid, used float64 // CPU time of windows and of the target: the last ones count most
}

// learnt is how much the newest of a series counts.
const learnt = 0.3

// remembered is what is left of the past's weight in the share after each window.
const remembered = 0.9

// share of its CPU time that the target's windows cost.
func (p *pace) share() float64 { return p.paid / max(p.used, 1e-3) }

// pass takes the CPU time that the target used meanwhile, and earns the share of it that is the budget, but no less
// than floor CPUs.
func (p *pace) pass(wall, cpu time.Duration, budget, floor float64) {
	if wall <= 0 {
		return
	}
	earned := max(time.Duration(budget*float64(cpu)), time.Duration(floor*float64(wall)))
	p.credit += earned
	p.used += cpu.Seconds()
	weight := min(1, wall.Seconds()*learnt)
	if !p.begun {
		weight, p.begun = 1, true
	}
	p.uses += weight * (cpu.Seconds()/wall.Seconds() - p.uses)
	p.earns += weight * (earned.Seconds()/wall.Seconds() - p.earns)
}

// length is how long the next window should be.
func (p *pace) length() time.Duration {
	cost := p.intensity * p.uses // per second
	if !p.tried || cost*maxWindow.Seconds() > windowCost.Seconds() {
		if !p.tried || cost*minWindow.Seconds() >= windowCost.Seconds() {
			return minWindow
		}
		return time.Duration(float64(windowCost) / cost)
	}
	return maxWindow
}

// expected is what a window of this length will cost.
func (p *pace) expected(length time.Duration) time.Duration {
	return SetupCost + time.Duration(p.intensity*p.uses*float64(length))
}

// wait is how long credit must be earned until a window can be paid for. ok is false if that would take too long
// however small the debts.
func (p *pace) wait(length time.Duration) (d time.Duration, ok bool) {
	seconds := func(cost time.Duration) time.Duration {
		return time.Duration(min(cost.Seconds()/max(p.earns, 1e-12), 1e6) * float64(time.Second))
	}
	cost := p.expected(length)
	// No more is saved than is needed: a target that has rested is not watched without a pause then.
	p.credit = min(p.credit, cost)
	return seconds(cost - p.credit), seconds(cost) <= maxWait
}

// pay takes what a window of this length cost. What the target used meanwhile is taken to be what it uses on average:
// where it was busier, so will the next window be expected to cost more.
func (p *pace) pay(cost, length time.Duration) {
	p.credit -= cost
	p.paid, p.used = p.paid*remembered+cost.Seconds(), p.used*remembered
	seen := max(0, (cost-SetupCost).Seconds()) / max(p.uses*length.Seconds(), 1e-3)
	if !p.tried {
		p.intensity, p.tried = seen, true
	}
	p.intensity += learnt * (seen - p.intensity)
}
