package collector

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	goprobes "github.com/p-scope/p-scope/pkg/goruntime/probes"
	gorefusal "github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Tier 2 puts a probe where every goroutine starts to run, for short windows at random times, and extrapolates. docs/decisions/migrations.md says why as
// it is.
const (
	windowLeast = 100 * time.Millisecond
	windowMost  = 2 * time.Second
	windowCost  = 20 * time.Millisecond // of CPU time, which a window is made long enough for, within these bounds
	windowLook  = 25 * time.Millisecond // how often it is looked whether a window costs more than was expected
	windowOver  = 4                     // times that, and it ends early
	windowGap   = time.Second           // between two windows at least, on average

	// longestWait is for how long the budget may have to be saved for one of the shortest windows; if that is not enough, tier 2 is switched off.
	longestWait = 2 * time.Minute
	offFor      = 10 * time.Minute // after which it is tried again

	// windowsAtOnce bounds how many targets have the probe at the same time.
	windowsAtOnce = 4
	// lastRanSets times 8 goroutines, of all targets, are remembered with the P that they ran on last.
	lastRanSets = 8192
	// mostGap is the part of a window beyond which the time between two starts of a goroutine is too long for it: what is seen of such pairs
	// would have to stand for four times as many and more.
	mostGap = 0.75

	// windowTrap is what putting the probe into the target's code and taking it out costs, which the target's threads may have to wait for.
	windowTrap = 200 * time.Microsecond
)

// tier2Budget is the share of a target's CPU time for tier 2 where the rest has no limit.
const tier2Budget = 0.02

// extrapolated is a count known from windows only.
//
// A window stands for the time since the one before: that time was chosen before anything was known of the window, so that a target's busy moments count
// for no more than their share of time. Between windows the count goes on at the last window's rate. Where that was too much, it rests until what is known has come up
// to it: it never decreases, and in the long run it is the sum over the windows.
type extrapolated struct{ known, shown, rate float64 }

// rest ends the extrapolation until the next window.
func (e *extrapolated) rest(since time.Duration) {
	e.at(since)
	e.known += e.rate * since.Seconds()
	e.rate = 0
}

// close adds a window of this rate that stands for the time since the last.
func (e *extrapolated) close(rate float64, since time.Duration) {
	e.at(since)
	e.known += rate * since.Seconds()
	e.rate = rate
	e.shown = max(e.shown, e.known)
}

// at is the count some time after the last window.
func (e *extrapolated) at(since time.Duration) float64 {
	e.shown = max(e.shown, e.known+e.rate*since.Seconds())
	return e.shown
}

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

// pass takes the CPU time that the target used meanwhile, and earns the share of it that is the budget, but no less than floor CPUs.
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
	if !p.tried || cost*windowMost.Seconds() > windowCost.Seconds() {
		if !p.tried || cost*windowLeast.Seconds() >= windowCost.Seconds() {
			return windowLeast
		}
		return time.Duration(float64(windowCost) / cost)
	}
	return windowMost
}

// expected is what a window of this length will cost.
func (p *pace) expected(length time.Duration) time.Duration {
	return windowTrap + time.Duration(p.intensity*p.uses*float64(length))
}

// wait is how long credit must be earned until a window can be paid for. ok is false if that would take too long however small the debts.
func (p *pace) wait(length time.Duration) (d time.Duration, ok bool) {
	seconds := func(cost time.Duration) time.Duration {
		return time.Duration(min(cost.Seconds()/max(p.earns, 1e-12), 1e6) * float64(time.Second))
	}
	cost := p.expected(length)
	// No more is saved than is needed: a target that has rested is not watched without a pause then.
	p.credit = min(p.credit, cost)
	return seconds(cost - p.credit), seconds(cost) <= longestWait
}

// pay takes what a window of this length cost. What the target used meanwhile is taken to be what it uses on average: where it was busier, so will the
// next window be expected to cost more.
func (p *pace) pay(cost, length time.Duration) {
	p.credit -= cost
	p.paid, p.used = p.paid*remembered+cost.Seconds(), p.used*remembered
	seen := max(0, (cost-windowTrap).Seconds()) / max(p.uses*length.Seconds(), 1e-3)
	if !p.tried {
		p.intensity, p.tried = seen, true
	}
	p.intensity += learnt * (seen - p.intensity)
}

// migrations is tier 2 of one target. Except for what only its own goroutine touches, the target's mu guards it.
type migrations struct {
	end  context.CancelFunc
	done chan struct{}

	site    goprobes.Site // its own
	number  uint32
	pace    pace
	lastCPU time.Duration
	lastAt  int64

	off     string // why nothing is counted
	lastEnd int64  // of a window; CLOCK_MONOTONIC; 0: nothing is counted at present
	watched time.Duration
	cost    time.Duration
	share   float64 // of the target's CPU time, over the last windows
	known   float64 // part of the starts in the last window whose goroutine had been seen before in it
	counts  []extrapolated
	told    func(migrationWindow) // for tests
}

// rest stops counting until the next window, which then stands for itself only. The caller holds the target's mu.
func (m *migrations) rest() { m.restAt(monoNow()) }

// restAt is rest from a time on, CLOCK_MONOTONIC, that has passed already.
func (m *migrations) restAt(at int64) {
	if m.lastEnd == 0 {
		return
	}
	for i := range m.counts {
		m.counts[i].rest(time.Duration(max(at-m.lastEnd, 0)))
	}
	m.lastEnd = 0
}

// view adds what tier 2 has counted. The caller holds mu.
func (o *observed) viewMigrations(v *pstate.TargetView) {
	m := o.migrations
	if m == nil {
		return
	}
	v.Migrations = pstate.Migrations{Counted: m.lastEnd != 0, Watched: m.watched, Known: m.known}
	if m.watched > 0 {
		v.ProbeTime["2"] = m.cost
	}
	if m.lastEnd == 0 {
		return
	}
	v.Governor.Share += m.share
	since := time.Duration(monoNow() - m.lastEnd)
	for i := range min(len(v.Ps), len(m.counts)) {
		v.Ps[i].Migrations = uint64(m.counts[i].at(since))
	}
}

// migrationWindow is what one window showed.
type migrationWindow struct {
	begin, end int64 // CLOCK_MONOTONIC
	hits       uint64
	cost       time.Duration
	first      uint64           // starts in it whose goroutine was not seen before in it
	again      uint64           // the others
	came       []uint64         // by P: migrations seen
	rates      []float64        // by P: migrations per second
	ps         []startCounts    // by P
	took       [2]time.Duration // attaching and detaching
}

// startCounts is what the kernel side counts of one P.
type startCounts struct {
	hits, ns, first, again uint64
	came, gaps             [migrationGaps]uint64
}

const migrationGaps = len(kern.ScopeP_startCounts{}.GapNs)

// watchMigrations begins tier 2, if it is asked for and can be.
func (o *observed) watchMigrations() {
	if o.kernel() != nil && o.c.o.Migrations {
		o.watchMigrationsAt(o.bin.StartedProbe())
	}
}

// watchMigrationsAt begins tier 2 with the probe's place, or notes why there is none.
func (o *observed) watchMigrationsAt(site goprobes.Site, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	m := &migrations{end: cancel, done: make(chan struct{}), lastAt: monoNow(), site: site}
	o.mu.Lock()
	o.migrations = m
	o.mu.Unlock()
	if err != nil {
		o.noMigrations(err.Error())
		close(m.done)
		return
	}
	w := &o.c.kernel.windows[o.index]
	atomic.StoreUint64(&w.End, 0)
	w.G_goid, w.SetMask = uint32(o.bin.Layout.G.GoID), uint32(o.c.kernel.objs.LastRan.MaxEntries()-1)
	go func() {
		defer close(m.done)
		o.watch(ctx, m)
	}()
}

// endMigrations waits until the probe is out of the target's code. Nobody may hold a lock who calls it.
func (o *observed) endMigrations() {
	o.mu.Lock()
	m := o.migrations
	o.mu.Unlock()
	if m != nil {
		m.end()
		<-m.done
	}
}

// noMigrations notes why nothing is counted; empty: it is.
func (o *observed) noMigrations(why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.migrations.off == why {
		return
	}
	o.migrations.off = why
	if why != "" {
		o.migrations.rest()
	}
	o.describeLevel()
	if why != "" {
		o.c.o.Log.Info("goroutine migrations are not counted", "process", o.info.Process, "pid", o.info.PID, "reason", why)
	}
}

// watch takes window after window. Only this goroutine attaches and detaches tier 2, and it holds no lock when it does.
func (o *observed) watch(ctx context.Context, m *migrations) {
	for {
		// The phase is random, so that a window is no more likely to meet one part of what the target does at a steady pace than another.
		if !sleep(ctx, windowGap/2+rand.N(windowGap)) {
			return
		}
		left, ok := o.migrationBudget(m)
		if !ok {
			continue
		}
		length := m.pace.length()
		wait, ok := m.pace.wait(length)
		switch {
		case !ok:
			o.noMigrations(fmt.Sprintf("a window of %v would cost %v of its CPU time, for which the %.2g %% that --cost-budget leaves would have to be saved for more than %v",
				length, m.pace.expected(length).Round(100*time.Microsecond), 100*left, longestWait))
			if !sleep(ctx, offFor) {
				return
			}
			m.pace = pace{} // it may have become another
			continue
		case wait > 0:
			if !sleep(ctx, wait) {
				return
			}
			continue
		}
		select {
		case o.c.windows <- struct{}{}:
		case <-ctx.Done():
			return
		}
		pauses := o.c.heart.pauses.Load()
		got, err := o.window(ctx, m, length)
		<-o.c.windows
		switch {
		case ctx.Err() != nil, errors.Is(err, gorefusal.ErrExited), errors.Is(err, gorefusal.ErrExeced):
			return // whoever finds that out ends the observation
		case err != nil:
			o.noMigrations(err.Error())
			if !sleep(ctx, offFor) {
				return
			}
			continue
		}
		if o.c.heart.silent() || o.c.heart.pauses.Load() != pauses {
			continue // the agent was not running for a part of it
		}
		m.pace.pay(got.cost, time.Duration(got.end-got.begin))
		o.takeWindow(m, got)
		o.noMigrations("")
	}
}

// sleep is false if there is no more reason to wake.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// migrationBudget brings the pace up to the present and gives the budget. ok is false while the governor leaves tier 2 out.
func (o *observed) migrationBudget(m *migrations) (share float64, ok bool) {
	stat, err := o.c.o.readStat(o.info.PID)
	if err != nil {
		return 0, false // it is ending
	}
	now := monoNow()
	o.mu.Lock()
	share, floor := o.gov.budget, o.gov.floor
	if share < 0 {
		share, floor = tier2Budget, 0
	}
	// Tiers 0 and 1 come first.
	share = max(0, share-o.gov.share)
	left := o.closed || o.gov.level >= stepMigrations
	if left {
		m.rest()
	}
	o.mu.Unlock()
	if m.lastCPU > 0 {
		m.pace.pass(time.Duration(now-m.lastAt), stat.cpu-m.lastCPU, share, floor)
	}
	m.lastAt, m.lastCPU = now, stat.cpu
	return share, !left && m.pace.begun
}

// window puts the probe into the target's code for a while.
func (o *observed) window(ctx context.Context, m *migrations, length time.Duration) (got migrationWindow, err error) {
	k := o.c.kernel
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return got, gorefusal.ErrExited
	}
	slots := make([]int, len(o.ps))
	for i := range slots {
		slots[i] = o.slot(int32(i))
	}
	proc := o.proc
	o.mu.Unlock()
	file, err := within(o.c, answerWithin, proc.OpenExecutable, func(f *os.File) {
		if f != nil {
			f.Close()
		}
	})
	if err != nil {
		return got, err
	}
	defer file.Close()
	before := make([]startCounts, len(slots))
	for i, slot := range slots {
		before[i].read(&k.starts[slot])
	}
	w := &k.windows[o.index]
	stray := atomic.LoadUint64(&w.HitsWithoutP)
	m.number++
	atomic.StoreUint32(&w.Number, m.number)
	atomic.StoreUint64(&w.Length, uint64(length))
	at := monoNow()
	l, err := k.probes.attach(o.site(file, m.site), k.objs.Execute)
	if err != nil {
		return got, explainProbe(err)
	}
	// From here on hits count: not while some threads met the probe already and others did not yet.
	got.begin = monoNow()
	got.took[0] = time.Duration(got.begin - at)
	got.end = got.begin + int64(length)
	atomic.StoreUint64(&w.Begin, uint64(got.begin))
	atomic.StoreUint64(&w.End, uint64(got.end))
	limit := windowOver * max(m.pace.expected(length), windowCost)
	for now := got.begin; now < got.end; now = monoNow() {
		if !sleep(ctx, min(windowLook, time.Duration(got.end-now))) || length > windowLeast && o.spent(slots, before) > limit {
			if now = monoNow(); now < got.end {
				got.end = now
				atomic.StoreUint64(&w.End, uint64(now))
			}
			break
		}
	}
	at = monoNow()
	err = l.Close() // waits until no CPU can be in the program any more
	got.took[1] = time.Duration(monoNow() - at)
	atomic.StoreUint64(&w.End, 0)
	got.hits = atomic.LoadUint64(&w.HitsWithoutP) - stray
	got.cost = windowTrap
	got.ps = make([]startCounts, len(slots))
	for i, slot := range slots {
		c := &got.ps[i]
		c.read(&k.starts[slot])
		c.sub(&before[i])
		got.cost += time.Duration(c.ns)
		got.hits += c.hits
		got.first += c.first
		got.again += c.again
		rate, came := c.rate(time.Duration(got.end-got.begin), length)
		got.rates, got.came = append(got.rates, rate), append(got.came, came)
	}
	got.cost += time.Duration(got.hits) * k.trap()
	return got, err
}

// spent is what the present window has cost so far.
func (o *observed) spent(slots []int, before []startCounts) (cost time.Duration) {
	for i, slot := range slots {
		var c startCounts
		c.read(&o.c.kernel.starts[slot])
		cost += time.Duration(c.ns-before[i].ns) + time.Duration(c.hits-before[i].hits)*o.c.kernel.trap()
	}
	return cost
}

func (c *startCounts) read(from *kern.ScopeP_startCounts) {
	c.hits, c.ns = atomic.LoadUint64(&from.Hits), atomic.LoadUint64(&from.Ns)
	c.first, c.again = atomic.LoadUint64(&from.First), atomic.LoadUint64(&from.Repeated)
	for i := range c.came {
		c.came[i], c.gaps[i] = atomic.LoadUint64(&from.Migrated[i]), atomic.LoadUint64(&from.GapNs[i])
	}
}

func (c *startCounts) sub(b *startCounts) {
	c.hits, c.ns, c.first, c.again = c.hits-b.hits, c.ns-b.ns, c.first-b.first, c.again-b.again
	for i := range c.came {
		c.came[i], c.gaps[i] = c.came[i]-b.came[i], c.gaps[i]-b.gaps[i]
	}
}

// rate is what the migrations seen in a window say of their number per second. Two starts of a goroutine with time g between them both fall into a window of
// length w with a probability that shrinks by g/w against that of one, so that each such pair stands for 1/(1-g/w). The kernel side has sorted
// the times by eighths of the length that was planned.
func (c *startCounts) rate(length, planned time.Duration) (perSecond float64, came uint64) {
	if length <= 0 {
		return 0, 0
	}
	sum := 0.0
	for i, n := range c.came {
		came += n
		if longest := float64(i+1) / float64(migrationGaps) * planned.Seconds() / length.Seconds(); n > 0 && longest < mostGap+1e-9 {
			sum += float64(n) / (1 - float64(c.gaps[i])/float64(n)/float64(length))
		}
	}
	return sum / length.Seconds(), came
}

// takeWindow adds a window to the counts.
func (o *observed) takeWindow(m *migrations, got migrationWindow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	length := time.Duration(got.end - got.begin)
	since := length // the first one stands for itself
	if m.lastEnd != 0 {
		since = time.Duration(got.end - m.lastEnd)
	}
	m.lastEnd = got.end
	m.watched += length
	m.cost += got.cost
	m.share = m.pace.share()
	if n := got.first + got.again; n > 0 {
		m.known = float64(got.again) / float64(n)
	}
	for len(m.counts) < len(got.rates) {
		m.counts = append(m.counts, extrapolated{})
	}
	for p, rate := range got.rates {
		m.counts[p].close(rate, since)
	}
	if m.told != nil {
		m.told(got)
	}
}
