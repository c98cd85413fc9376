// Package govern decides how much of a target is observed, by what observing costs it and the budget for that.
//
// It is pure: whoever observes a target measures the cost, asks, and does what the answer says.
package govern

import (
	"math"
	"strings"
	"time"
)

// Level is how much is left out. Each level leaves out what those before it do; the order is that of what they save
// against what they take away.
type Level int

// The levels.
const (
	Everything    Level = iota
	NoMigrations        // tier 2 off
	NoIntervals         // no raw intervals; the totals go on, the timeline shows shares
	DutyCycle           // observed for one second in several
	NoStops             // tier 1 off: no uprobe is left in the target's code
	OnlySnapshots       // tier 0 off: the kernel side does not see the target
	lastLevel     = OnlySnapshots
)

// leftOut names what each level takes away, for people.
var leftOut = [...]string{
	"", "goroutine migrations", "raw intervals", "all but windows of a second (the time between is estimated)", "stops",
	"everything but snapshots",
}

// Scope is what is observed of a target.
type Scope struct {
	Events     bool // by the kernel side; else by snapshots alone
	AllTheTime bool // else for one second in several
	Stops      bool
	Intervals  bool // raw ones
	Migrations bool
}

// Asked is what the options of the agent ask for.
type Asked struct{ Stops, Migrations bool }

// At gives what is observed at a level.
func At(level Level, asked Asked) Scope {
	return Scope{
		Events:     level < OnlySnapshots,
		AllTheTime: level < DutyCycle,
		Stops:      asked.Stops && level < NoStops,
		Intervals:  level < NoIntervals,
		Migrations: asked.Migrations && level < NoMigrations,
	}
}

// Next gives the level for one that was decided, coming from another: levels that would change nothing are passed over.
func Next(from, to Level, asked Asked) Level {
	for to > Everything && to < lastLevel && to != from && At(to, asked) == At(to-1, asked) {
		if to > from {
			to++
		} else {
			to--
		}
	}
	return to
}

// LeftOut says in a sentence what a level leaves out; empty if nothing is.
func LeftOut(level Level, asked Asked) string {
	var parts []string
	switch {
	case level == Everything:
		return ""
	case level == OnlySnapshots:
		parts = leftOut[level:]
	case asked.Migrations:
		parts = leftOut[NoMigrations : level+1]
	default:
		parts = leftOut[NoIntervals : level+1]
	}
	return "left out, because observing costs it more of its CPU time than --cost-budget allows: " +
		strings.Join(parts, ", ")
}

const (
	minCPU      = 100 * time.Millisecond // of the target, in a period: /proc counts in steps of 10 ms
	maxPeriod   = 10 * time.Second       // a period ends after this long, however little the target ran
	headroom    = 0.9                    // of the budget, from where on less is observed: it is not to be passed
	calmBelow   = 0.5                    // of the budget, below which more is tried again
	hotPeriods  = 2                      // in a row over the headroom make a step; one may be a hiccup of the machine
	minPatience = 10                     // calm periods after which more is tried again
	maxPatience = 1800                   // likewise, when trying failed over and over
	proven      = 10                     // times its patience that a level is kept before its failures are forgotten
)

// Governor decides the level of one target.
//
// It must neither pass the budget nor swing: on a busy machine what observing costs changes from second to second, and
// each change of level is a gap in what is shown. So a step takes periods in a row; between the shares that make it
// leave out more and those that make it try more lies almost half of the budget; and each level has a patience of its
// own, which doubles whenever the level proves too expensive and is forgotten only after the level was kept for long.
// At worst a level is left once in ten times its patience.
type Governor struct {
	Budget, Floor float64 // shares of the target's CPU time, and of one CPU

	level     Level
	share     float64        // of the target's CPU time, in the last period
	yields    bool           // the level itself can cost less, and will
	hot, calm int            // periods in a row over the headroom, below calm
	kept      int            // periods since the level was reached
	patience  [lastLevel]int // by level: calm periods above it before it is tried again; doubled each time it fails

	cost, cpu, wall time.Duration // of the period so far
	last            Reading
}

// Reading is what has been counted of a target until a time; At is 0 if nothing has been read.
type Reading struct {
	At        time.Duration // by CLOCK_MONOTONIC
	Cost, CPU time.Duration // what observing cost the target, and its CPU time
}

// New makes one for a target. A budget that is negative is no limit.
func New(budget, floor float64) Governor {
	g := Governor{Budget: budget, Floor: floor}
	for i := range g.patience {
		g.patience[i] = minPatience
	}
	return g
}

// NoPatience makes each level be tried again after one calm period. For tests.
func (g *Governor) NoPatience() {
	for i := range g.patience {
		g.patience[i] = 1
	}
}

// Level is the present one.
func (g *Governor) Level() Level { return g.level }

// Share is what observing cost in the last period, as a share of the target's CPU time.
func (g *Governor) Share() float64 { return g.share }

// Due says whether it is worth while to read how much CPU time the target has used: not as long as nothing is left out
// and observing it costs so little that this cannot change.
func (g *Governor) Due(now, cost time.Duration) bool {
	wall := now - g.last.At
	return g.level != Everything || g.last.At == 0 || wall >= maxPeriod ||
		float64(cost-g.last.Cost) > g.Floor*float64(wall)
}

// Judge takes a reading and gives the level that is right now; Reach notes that it was reached. yields says that the
// level itself can cost less, and will: it is not left for the next.
func (g *Governor) Judge(r Reading, yields bool) Level {
	g.yields = yields
	to := g.level
	if g.last.At != 0 {
		to += Level(g.judge(r.Cost-g.last.Cost, r.CPU-g.last.CPU, r.At-g.last.At))
	}
	g.last = r
	return to
}

// Skip says that the time until the next reading cost nothing: nothing was observed in it.
func (g *Governor) Skip() { g.last.At = 0 }

// NoHiccup says that what the next reading shows is no hiccup of the machine.
func (g *Governor) NoHiccup() { g.hot = hotPeriods - 1 }

// judge takes what observing cost, the target's CPU time, and the time that passed, and says whether less (+1) or more
// (-1) should be observed.
func (g *Governor) judge(cost, cpu, wall time.Duration) int {
	g.cost, g.cpu, g.wall = g.cost+cost, g.cpu+cpu, g.wall+wall
	if g.wall <= 0 || g.cpu < minCPU && g.wall < maxPeriod {
		return 0
	}
	rate := float64(g.cost) / float64(g.wall)
	g.share = float64(g.cost) / float64(max(g.cpu, time.Millisecond))
	g.cost, g.cpu, g.wall = 0, 0, 0
	g.kept++
	switch {
	case g.share > g.Budget*headroom && rate > g.Floor:
		g.calm = 0
		if g.yields {
			g.hot = 0
			return 0
		}
		if g.hot++; g.hot < hotPeriods || g.level == lastLevel {
			return 0
		}
		if w := &g.patience[g.level]; g.kept > proven**w {
			*w = minPatience
		} else {
			*w = min(2**w, maxPatience)
		}
		return +1
	case g.level > Everything && (g.share < g.Budget*calmBelow || rate < g.Floor*calmBelow):
		g.hot = 0
		if g.calm++; g.calm < g.patience[g.level-1] {
			return 0
		}
		return -1
	}
	g.hot, g.calm = 0, 0
	return 0
}

// Reach notes that a level has been reached: what was seen on another says nothing of it.
func (g *Governor) Reach(level Level) { g.level, g.hot, g.calm, g.kept = level, 0, 0, 0 }

// Of so many seconds one is observed in a duty cycle.
const (
	MinCycle = 2
	MaxCycle = 16  // with fewer observed seconds it says less than snapshots do
	aim      = 0.5 // of the budget, that observing in a duty cycle is meant to cost, stops included
)

// Cycle gives the seconds of which one may be observed, if observing all of them costs a share of the target's CPU
// time, stops alone another, and there is a budget for both; and whether even the longest cycle would pass that.
func Cycle(full, stops, budget float64) (seconds int, tooExpensive bool) {
	full = max(full, stops)
	seconds = MaxCycle
	if room := aim*budget - stops; room > 0 {
		seconds = int(min(max(math.Ceil((full-stops)/room), MinCycle), MaxCycle))
	}
	return seconds, stops+(full-stops)/MaxCycle > budget*headroom
}
