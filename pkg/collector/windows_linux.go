package collector

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Where observing a target all the time would cost it too much, it is observed in windows. In between the kernel side does not see its threads at all, and the snapshots
// say for each P whether anything happened from one to the next: if not, it was in the state they found it in; if so, its time is estimated to have passed as it did in
// those stretches of the windows in which as much happened to it. Events are extrapolated likewise. Stops are told of all the time, and whether a thread is stuck in
// uninterruptible sleep is looked up with each snapshot.
const (
	windowLength = uint64(1e9) >> tickShift
	windowsMany  = 2   // of so many seconds one is observed, at least
	windowsFew   = 16  // at most: fewer windows say less than snapshots do
	windowsAim   = 0.5 // of the budget, that observing in windows is meant to cost, stops included
	windowsLeast = 50 * time.Millisecond
	ratesLeast   = float64(windowLength) / 4 // ticks of stretches from which on they are worth something
	ratesKept    = 0.5                       // of what windows before have taught, with each new one
)

// windows says when a target is observed.
type windows struct {
	on      bool    // it is observed in windows
	between bool    // and now is not
	every   int     // one second in as many
	turn    uint64  // tick at which between changes
	left    uint64  // tick at which the last window ended
	ended   bool    // a window has ended since the governor looked
	tooDear bool    // even the fewest windows would pass the budget
	stops   float64 // share of the target's CPU time that stops cost while between
	// At the beginning of the window or of the time between.
	cost, cpu time.Duration
	// At the end of the last one: what the kernel itself counts of each thread, and those counted as in uninterruptible sleep by the slot, plus one, of the P.
	uses   map[uint32]threadUse
	asleep map[uint32]uint32
	paces  paces // of all Ps together
}

// counters is how many of a record's counters are extrapolated: see eachCounter.
const counters = len(kern.ScopeP_record{}.Time) + len(kern.ScopeP_record{}.Moves) + len(kern.ScopeP_record{}.Samples) + len(kern.ScopeP_record{}.Wake) + 2

// timeCells come first among them.
const timeCells = len(kern.ScopeP_record{}.Time)

// eachCounter calls fn for what is counted of a P: times by state first.
func eachCounter(r *kern.ScopeP_record, fn func(i int, c *uint64)) {
	i := 0
	for _, part := range [...][]uint64{r.Time[:], r.Moves[:], r.Samples[:], r.Wake[:]} {
		for k := range part {
			fn(i, &part[k])
			i++
		}
	}
	fn(i, &r.WakeSum)
	fn(i+1, &r.StopTime)
}

// rates are what happens to a P in stretches in which something does.
type rates struct {
	counts [counters]float64
	span   float64 // ticks of these stretches
}

// add takes in what counters have grown by in a stretch.
func (r *rates) add(grown *[counters]float64, span float64) {
	for i, n := range grown {
		r.counts[i] += n
	}
	r.span += span
}

// fade lets what was learnt count for less.
func (r *rates) fade() {
	for i := range r.counts {
		r.counts[i] *= ratesKept
	}
	r.span *= ratesKept
}

// paces are stretches by how often a P was given something else to do in them, in powers of four times a tenth of a second. How long a P is busy goes with that, and it
// changes from one moment to the next, which counters of the runtime tell at any time.
type paces [12]*rates

// paceOf is the index among them of a stretch in which a P's counters have moved by so many.
func paceOf(moved uint32, span uint64) int {
	rate := float64(moved) * float64(windowLength/10) / float64(max(span, 1))
	return min((bits.Len32(uint32(min(rate, math.MaxInt32)))+1)/2, len(paces{})-1)
}

func (p *paces) add(pace int, grown *[counters]float64, span float64) {
	if p[pace] == nil {
		p[pace] = new(rates)
	}
	p[pace].add(grown, span)
}

func (p *paces) fade() {
	for _, r := range p {
		if r != nil {
			r.fade()
		}
	}
}

// windowedP is what a P is estimated by.
type windowedP struct {
	// Of the snapshot before.
	schedTick, syscallTick uint32
	state                  pstate.State
	tid                    uint32

	from   uint64           // tick up to which its record is accounted for, in a window: at which the counters below were read
	before [counters]uint64 // readings
	all    rates            // of whatever pace
	paces  paces
	owed   [counters]float64 // fractions that have not been added yet
}

// newWindowedP begins to learn about a P.
func newWindowedP(p *observedP) *windowedP {
	w := &windowedP{schedTick: p.schedTick.low, syscallTick: p.syscallTick.low}
	w.look(p.rec, nil)
	return w
}

// turn is called with each snapshot, which has just been taken; in a window, and at its end, records are right at the tick now. The caller holds mu.
func (o *observed) turn(now uint64) error {
	w := &o.windows
	if !w.on || now < w.turn {
		return nil
	}
	if w.between {
		return o.openWindow()
	}
	o.closeWindow(now)
	return nil
}

// startWindows goes over to windows, the first of which begins now. The caller holds mu.
func (o *observed) startWindows(every int) {
	now := nowTick()
	o.windows = windows{on: true, every: every, turn: now + windowLength}
	o.measure()
	for _, p := range o.ps {
		p.windowed = newWindowedP(p)
	}
}

// endWindows goes back to observing all the time, or to snapshots.
func (o *observed) endWindows() {
	o.windows = windows{}
	for _, p := range o.ps {
		p.windowed = nil
	}
}

// measure gives what observing has cost since it was last called, as a share of the target's CPU time, if that is known.
func (o *observed) measure() (share float64, ok bool) {
	w := &o.windows
	cost, cpu := w.cost, w.cpu
	w.cost, w.cpu = o.probeCost(), 0
	if stat, err := o.c.o.readStat(o.info.PID); err == nil {
		w.cpu = stat.cpu
	}
	if cpu == 0 || w.cpu == 0 {
		return 0, false
	}
	// Of a target that hardly runs a share says nothing: its clock ticks in steps of 10 ms.
	return float64(w.cost-cost) / float64(max(w.cpu-cpu, windowsLeast)), true
}

// closeWindow makes the kernel side overlook the target until the next window.
func (o *observed) closeWindow(now uint64) {
	w := &o.windows
	o.c.kernel.overlook(o.info.PID, o.index)
	w.between, w.ended, w.left = true, true, now
	if full, ok := o.measure(); ok && o.gov.budget > 0 {
		w.every, w.tooDear = windowsFor(full, w.stops, o.gov.budget)
	}
	away := float64(uint64(w.every-1)*windowLength) * (0.75 + rand.Float64()/2) // or windows may beat with what the target does
	w.turn = now + uint64(away)
	w.uses, w.asleep = make(map[uint32]threadUse), make(map[uint32]uint32)
	for tid, th := range o.knownThreads() {
		w.uses[tid] = o.c.o.threadUse(o.info.PID, int32(tid))
		if th.D_slot != 0 {
			w.asleep[tid] = th.D_slot
		}
	}
}

// knownThreads are the target's entries in the table of threads.
func (o *observed) knownThreads() map[uint32]kern.ScopeThread {
	known := make(map[uint32]kern.ScopeThread)
	o.c.kernel.threads.each(func(tid uint32, th *kern.ScopeThread) {
		if th.Target == o.index && th.Tgid == uint32(o.info.PID) {
			known[tid] = *th
		}
	})
	return known
}

// windowsFor gives the seconds of which one may be observed, if observing all of them costs a share of the target's CPU time, stops alone another, and there is a budget
// for both; and whether even the fewest windows would pass that.
func windowsFor(full, stops, budget float64) (every int, tooDear bool) {
	full = max(full, stops)
	every = windowsFew
	if room := windowsAim*budget - stops; room > 0 {
		every = int(min(max(math.Ceil((full-stops)/room), windowsMany), windowsFew))
	}
	return every, stops+(full-stops)/windowsFew > budget*governHeadroom
}

// openWindow makes the kernel side see the target again.
func (o *observed) openWindow() error {
	known := o.refreshThreads()
	// What takes time is done: what is read now holds when the next event comes.
	if err := o.proc.Snapshot(&o.snap, true); err != nil {
		return err
	}
	now := nowTick()
	for i, p := range o.ps {
		if i < len(o.snap.Ps) && o.snap.Ps[i].OK {
			o.between(p, &o.snap.Ps[i], now)
			atomic.StoreUint32(&p.rec.Schedtick, o.snap.Ps[i].SchedTick)
			atomic.StoreUint32(&p.rec.SchedtickStale, 0)
		}
		p.disagreed = false
		if p.windowed == nil {
			p.windowed = newWindowedP(p)
		}
		p.windowed.all.fade()
		p.windowed.paces.fade()
		p.windowed.look(p.rec, nil)
	}
	w := &o.windows
	w.paces.fade()
	w.between, w.uses, w.asleep = false, nil, nil
	w.turn = now + windowLength
	o.uncountD()
	o.seat(known, now)
	o.c.kernel.see(o.info.PID, o.index)
	o.enterThreads()
	if stops, ok := o.measure(); ok {
		w.stops = stops
	}
	return nil
}

// refreshThreads takes from /proc what the threads known to the kernel side have done between two windows.
func (o *observed) refreshThreads() map[uint32]kern.ScopeThread {
	w, now := &o.windows, nowTick()
	known := o.knownThreads()
	for tid, th := range known {
		state, _, err := o.threadState(int32(tid))
		if err != nil {
			o.c.kernel.threads.remove(tid) // it has ended
			delete(known, tid)
			continue
		}
		was := word(th.Word).thread()
		before, use := w.uses[tid], o.c.o.threadUse(o.info.PID, int32(tid))
		if !use.known || !before.known || use.slices != before.slices || state != was {
			open := elapsed(w.left, th.Word)
			addThreadTime(&th, was, open)
			away := elapsed(now, th.Word) - open
			on := min(uint64(max(use.on-before.on, 0)/tick), away)
			waiting := min(uint64(max(use.waiting-before.waiting, 0)/tick), away-on)
			rest := was
			if rest == pstate.OnCPU || rest == pstate.Runnable || rest == pstate.NoThread {
				rest = pstate.Sleeping
			}
			addThreadTime(&th, pstate.OnCPU, on)
			addThreadTime(&th, pstate.Runnable, waiting)
			addThreadTime(&th, rest, away-on-waiting)
			th.Word = uint64(wordOf(now, 0, 0, state))
		}
		known[tid] = unseated(th, now)
	}
	return known
}

// seat enters threads again, with the Ps that the last snapshot found them to carry.
func (o *observed) seat(known map[uint32]kern.ScopeThread, now uint64) {
	carried := make(map[uint32]uint32, len(o.ps)) // slots, plus one, by the thread
	for _, p := range o.ps {
		if tid := word(atomic.LoadUint64(&p.rec.Word)).owner(); tid != 0 {
			carried[tid] = uint32(o.slot(p.id)) + 1
		}
	}
	for tid, th := range known {
		if slot := carried[tid]; slot != 0 {
			th.Slot, th.LastSlot = slot, slot
		}
		if word(th.Word).thread() == pstate.Uninterruptible && th.LastSlot != 0 {
			th.D_slot = th.LastSlot
			countD(&o.c.kernel.records[th.LastSlot-1], now)
		}
		if entry := o.c.kernel.threads.find(tid); entry != nil {
			*entry = th
		}
	}
}

// since says whether nothing has happened to a P since the snapshot before, and by how much its counters moved, and remembers what this one says.
func (w *windowedP) since(seen *process.PSnapshot, tid uint32) (quiet bool, moved uint32) {
	moved = seen.SchedTick - w.schedTick + seen.SyscallTick - w.syscallTick
	quiet = moved == 0 && w.state == seen.State && w.tid == tid
	w.schedTick, w.syscallTick, w.state, w.tid = seen.SchedTick, seen.SyscallTick, seen.State, tid
	return quiet, moved
}

// look reads the counters, at one instant as far as times go, and what they have grown by into grown, in ticks and events.
func (w *windowedP) look(r *kern.ScopeP_record, grown *[counters]float64) {
	v, _ := read(r)
	w.from = v.now
	eachCounter(r, func(i int, c *uint64) {
		n := atomic.LoadUint64(c)
		if i < timeCells {
			n = v.time[i]
		}
		if grown != nil {
			grown[i] = float64(int64(n - w.before[i])) // a time may shrink: see ledger
		}
		w.before[i] = n
	})
}

// learn is called with each snapshot in a window.
func (o *observed) learn(p *observedP, seen *process.PSnapshot) {
	w := p.windowed
	if w == nil {
		if o.windows.on {
			p.windowed = newWindowedP(p) // new since the windows began
		}
		return
	}
	from := w.from
	quiet, moved := w.since(seen, o.carrier(seen))
	if quiet {
		w.look(p.rec, nil)
		return
	}
	var grown [counters]float64
	w.look(p.rec, &grown)
	span := w.from - from
	pace := paceOf(moved, span)
	w.all.add(&grown, float64(span))
	w.paces.add(pace, &grown, float64(span))
	o.windows.paces.add(pace, &grown, float64(span))
}

// likely gives the rates that tell most of a stretch of a P: its own at this pace, those of all Ps at this pace, its own at any. nil if nothing is known.
func (o *observed) likely(w *windowedP, pace int) *rates {
	for _, r := range [...]*rates{w.paces[pace], o.windows.paces[pace], &w.all} {
		if r != nil && r.span >= ratesLeast {
			return r
		}
	}
	return nil
}

// between is called with each snapshot between two windows: it accounts for a P's time since the one before, and takes over the state that this one shows.
func (o *observed) between(p *observedP, seen *process.PSnapshot, now uint64) {
	w := p.windowed
	if w == nil {
		o.settle(p, seen, now)
		return
	}
	owner, s, t := o.sight(seen)
	o.countBetween(p, t, now)
	old := word(atomic.LoadUint64(&p.rec.Word))
	quiet, moved := w.since(seen, owner)
	from := max(w.from, sinceTick(now, uint64(old)))
	w.from = now
	if quiet && old.owner() == owner && old.state() == s && old.thread() == t {
		return // since is what it was
	}
	rates := o.likely(w, paceOf(moved, now-min(from, now)))
	if quiet || rates == nil || from >= now {
		closed, _ := swap(p.rec, old, now, owner, s, t, 0)
		o.keep(p, closed[:]...)
		return
	}
	// Until from the P was in the state that its word says.
	if !atomic.CompareAndSwapUint64(&p.rec.Word, uint64(old), uint64(wordOf(now, owner, s, t))) {
		return // the kernel side was still about it when the window closed
	}
	atomic.AddUint64(&p.rec.Time[cell(old.state(), old.thread())], from-sinceTick(now, uint64(old)))
	w.extrapolate(p.rec, rates, now-from)
}

// extrapolate adds to a record what came to pass in the ticks span, in all likelihood.
func (w *windowedP) extrapolate(r *kern.ScopeP_record, by *rates, span uint64) {
	scale := float64(span) / by.span
	given, largest := uint64(0), 0
	eachCounter(r, func(i int, c *uint64) {
		x := max(by.counts[i], 0)*scale + w.owed[i]
		n := uint64(max(x, 0))
		if i < timeCells {
			n = min(n, span-given) // the sum is the time that passed, exactly
			given += n
			if by.counts[i] > by.counts[largest] {
				largest = i
			}
		}
		w.owed[i] = x - float64(n)
		atomic.AddUint64(c, n)
	})
	atomic.AddUint64(&r.Time[largest], span-given)
	w.owed[largest] -= float64(span - given)
}

// countBetween keeps a P's count of threads in uninterruptible sleep between two windows: those that slept when the last one closed, and the one that carries it, in the
// state t.
func (o *observed) countBetween(p *observedP, t pstate.ThreadState, now uint64) {
	asleep := t == pstate.Uninterruptible
	slot := uint32(o.slot(p.id)) + 1
	for tid, at := range o.windows.asleep {
		if at != slot {
			continue
		}
		if state, _, err := o.threadState(int32(tid)); err == nil && state == pstate.Uninterruptible {
			asleep = true
		} else {
			delete(o.windows.asleep, tid)
		}
	}
	lookedUpD(p.rec, asleep, now)
}
