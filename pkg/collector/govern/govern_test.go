package govern

import (
	"math/rand/v2"
	"testing"
	"time"
)

// period lets a second pass in which observing cost a share of the target's CPU time, and steps as a target would.
func (g *Governor) period(share float64) int {
	d := g.judge(time.Duration(share*float64(time.Second)), time.Second, time.Second)
	if d != 0 {
		g.Reach(g.level + Level(d))
	}
	return d
}

func TestGovernorStepsBeforeTheBudgetAndComesBack(t *testing.T) {
	g := New(0.02, 0.001)
	for range 100 {
		if g.period(0.017) != 0 {
			t.Fatal("stepped below the headroom")
		}
	}
	if g.period(0.019) != 0 || g.period(0.019) != 1 {
		t.Error("two periods in a row just under the budget are one step")
	}
	if g.period(0.05) != 0 || g.period(0.05) != 1 {
		t.Error("what was seen on the level before counted, or two periods over the budget were not enough")
	}
	// Level 1 has just proved too expensive: that is twice the least patience.
	for i := range 2*minPatience - 1 {
		if g.period(0.005) != 0 {
			t.Fatalf("came back after %d calm periods", i+1)
		}
	}
	if g.period(0.005) != -1 || g.level != 1 {
		t.Error("did not come back")
	}
	for range 100 {
		g.period(0.05)
	}
	if g.level != lastLevel {
		t.Errorf("level %d, want the last", g.level)
	}
	for range 10 * maxPatience {
		g.period(0)
	}
	if g.level != Everything {
		t.Errorf("level %d after a long calm, want none", g.level)
	}
}

func TestGovernorIgnoresAHiccup(t *testing.T) {
	g := New(0.02, 0.001)
	for i := range 1000 {
		share := 0.012
		if i%2 == 0 {
			share = 0.3
		}
		if g.period(share) != 0 {
			t.Fatal("a single period made a step")
		}
	}
}

// A level that can itself cost less is not left for the next.
func TestGovernorLetsALevelYield(t *testing.T) {
	g := New(0.02, 0.001)
	g.yields = true
	for range 10 {
		if g.period(0.1) != 0 {
			t.Fatal("left a level that yields")
		}
	}
	g.yields = false
	if g.period(0.1) != 0 || g.period(0.1) != 1 {
		t.Error("did not leave a level that no longer yields after two periods")
	}
}

// A level that proves too expensive is tried again after twice the time, each time.
func TestGovernorWaitsLongerAfterEachFailure(t *testing.T) {
	g := New(0.02, 0.001)
	waited, last := 0, 0
	for failures := 0; failures < 12; {
		share := 0.03
		if g.level > Everything {
			share = 0.005
			waited++
		}
		if g.period(share) != 1 {
			continue
		}
		if want := min(2*last, maxPatience); waited < want {
			t.Fatalf("after %d failures it was tried again after %d periods, before that after %d", failures, waited,
				last)
		}
		last, waited = waited, 0
		failures++
	}
	if last != maxPatience {
		t.Errorf("waits %d periods in the end, want %d", last, maxPatience)
	}
	// What was kept for long is not held against it.
	for range proven*maxPatience + maxPatience + 1 {
		g.period(0.005)
	}
	if g.level != Everything {
		t.Fatalf("level %d after a long calm", g.level)
	}
	g.period(0.03)
	g.period(0.03)
	if g.level != 1 || g.patience[Everything] != minPatience {
		t.Errorf("level %d with patience %d after a level was kept for long, want 1 with %d", g.level,
			g.patience[Everything], minPatience)
	}
}

// On a loaded machine the cost of a level swings around the budget, and that of the next lies below. The level must not
// follow each swing.
func TestGovernorDoesNotFlap(t *testing.T) {
	costs := []float64{0.022, 0.018, 0.014, 0.011, 0.009, 0} // by level
	for seed := range uint64(20) {
		g, r := New(0.02, 0.001), rand.New(rand.NewPCG(seed, 1))
		var changes [3600]int
		busy := 1.0
		for i := range changes {
			if i%7 == 0 {
				busy = 0.4 + 1.2*r.Float64() // what else runs on the machine
			}
			if d := g.period(costs[g.level] * busy * (0.8 + 0.4*r.Float64())); d != 0 {
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
	g := New(0.02, 0.001)
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

func TestWhatIsObservedAtEachLevel(t *testing.T) {
	all := Asked{Stops: true, Migrations: true}
	for level, want := range []Scope{
		Everything:    {Events: true, AllTheTime: true, Stops: true, Intervals: true, Migrations: true},
		NoMigrations:  {Events: true, AllTheTime: true, Stops: true, Intervals: true},
		NoIntervals:   {Events: true, AllTheTime: true, Stops: true},
		DutyCycle:     {Events: true, Stops: true},
		NoStops:       {Events: true},
		OnlySnapshots: {},
	} {
		if got := At(Level(level), all); got != want {
			t.Errorf("level %d: %+v, want %+v", level, got, want)
		}
	}
	if got := At(Everything, Asked{}); got.Stops || got.Migrations {
		t.Errorf("nothing is asked for and there is %+v", got)
	}
}

func TestLevelsThatWouldChangeNothingArePassedOver(t *testing.T) {
	both, none := Asked{Stops: true, Migrations: true}, Asked{}
	for _, c := range []struct {
		from, to Level
		asked    Asked
		want     Level
	}{
		{Everything, NoMigrations, both, NoMigrations},
		{Everything, NoMigrations, none, NoIntervals},
		{NoIntervals, NoMigrations, none, Everything},
		{NoIntervals, DutyCycle, none, DutyCycle},
		{DutyCycle, NoStops, both, NoStops},
		{DutyCycle, NoStops, none, OnlySnapshots},
		{OnlySnapshots, NoStops, none, DutyCycle},
		{NoIntervals, NoMigrations, both, NoMigrations},
	} {
		if got := Next(c.from, c.to, c.asked); got != c.want {
			t.Errorf("from %d to %d with %+v: %d, want %d", c.from, c.to, c.asked, got, c.want)
		}
	}
}

func TestWhatIsLeftOutIsSaid(t *testing.T) {
	const because = "left out, because observing costs it more of its CPU time than --cost-budget allows: "
	for _, c := range []struct {
		level Level
		asked Asked
		want  string
	}{
		{Everything, Asked{}, ""},
		{NoMigrations, Asked{Migrations: true}, because + "goroutine migrations"},
		{NoIntervals, Asked{Migrations: true}, because + "goroutine migrations, raw intervals"},
		{NoIntervals, Asked{}, because + "raw intervals"},
		{NoStops, Asked{}, because + "raw intervals, all but windows of a second (the time between is estimated), " +
			"stops"},
		{OnlySnapshots, Asked{Migrations: true}, because + "everything but snapshots"},
	} {
		if got := LeftOut(c.level, c.asked); got != c.want {
			t.Errorf("level %d with %+v: %q, want %q", c.level, c.asked, got, c.want)
		}
	}
}

// As many seconds are left out as it takes, and no more; what stops cost can't be.
func TestCycle(t *testing.T) {
	for _, c := range []struct {
		full, stops, budget float64
		seconds             int
		tooExpensive        bool
	}{
		{0.013, 0, 0.02, MinCycle, false},
		{0.029, 0, 0.02, 3, false},
		{0.031, 0, 0.02, 4, false},
		{0.2, 0, 0.02, MaxCycle, false},
		{0.3, 0, 0.02, MaxCycle, true},
		{0.049, 0.005, 0.02, 9, false},
		{0.05, 0.013, 0.02, MaxCycle, false},
		{0.05, 0.018, 0.02, MaxCycle, true},
		{0.01, 0.02, 0.02, MaxCycle, true}, // stops in the time between, none in the observed second
	} {
		if seconds, tooExpensive := Cycle(c.full, c.stops, c.budget); seconds != c.seconds ||
			tooExpensive != c.tooExpensive {
			t.Errorf("all the time costs %v, stops %v, budget %v: one second in %d, too expensive %v; want %d, %v",
				c.full, c.stops, c.budget, seconds, tooExpensive, c.seconds, c.tooExpensive)
		}
	}
}

// What is counted in a time in which nothing was observed is no cost of the next period.
func TestReadings(t *testing.T) {
	g := New(0.02, 0.001)
	r := Reading{At: time.Hour}
	next := func(share float64) Level {
		r.At += time.Second
		r.CPU += time.Second
		r.Cost += time.Duration(share * float64(time.Second))
		return g.Judge(r, false)
	}
	next(1) // the first says nothing
	if !g.Due(r.At+time.Second, r.Cost+time.Millisecond+1) || g.Due(r.At+time.Second, r.Cost+time.Millisecond) {
		t.Error("a reading is due from where the cost is above the floor on")
	}
	if to := next(0.05); to != Everything {
		t.Errorf("level %d after one period", to)
	}
	g.Skip()
	if next(1); g.Share() > 0.06 {
		t.Errorf("a share of %v: the time that was skipped counts", g.Share())
	}
	if to := next(0.05); to != NoMigrations {
		t.Errorf("level %d after two periods", to)
	}
	g.Reach(NoMigrations)
	g.NoHiccup()
	if to := next(0.05); to != NoIntervals {
		t.Errorf("level %d after one period that is no hiccup", to)
	}
	if g.Judge(Reading{At: r.At + time.Second, CPU: r.CPU + time.Second, Cost: r.Cost + time.Second},
		true) != g.Level() {
		t.Error("a level that yields was left")
	}
}
