package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/cgroup"
	"github.com/p-scope/p-scope/pkg/collector/discover"
	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/pstate"
)

const (
	drainEvery = 50 * time.Millisecond // while the ring fills quickly
	// maxLull lies between two looks at targets that are all idle, and is the longest the ring is left alone.
	maxLull      = 200 * time.Millisecond
	threadsEvery = time.Second
	sweepEvery   = 30 * time.Second
)

// collect is the one implementation of Collector; without a kernel side it is snapshot mode.
//
// Locks are taken in this order, and none of an earlier place while one of a later place is held: drainMu, the mu of an
// observed, then mu, that of the kernel side, of its thread reader, of info, and what the sink locks.
type collect struct {
	o      Options
	clock  *ledger.Clock
	kernel *kernel.Side // nil in snapshot mode
	heart  kernel.Heartbeat
	info   agentInfo

	drainMu  sync.Mutex // guards record, and that events are taken in order
	record   ringbuf.Record
	refilled time.Time                 // when the budgets of intervals were refilled last
	wanted   []float64                 // scratch of refill
	renewed  map[uint32]ledger.Renewed // by thread; only Run's loop touches it
	// events of no target that did not fit into the ring, when that was looked up last
	ringFull uint64
	orphans  atomic.Uint64 // events of targets that are no more
	hung     atomic.Uint64 // calls for a file that were given up, because it did not answer

	viewed, viewedBefore atomic.Int64 // when Views was called last, and the time before that
	made                 time.Time
	// loopAt is when the loop of Run last went round, in nanoseconds after made: a step of the clock is none of it.
	loopAt atomic.Int64

	mu       sync.Mutex
	observed map[pstate.Key]*target.Target
	// byIndex has them by their place in the kernel's table, from before their first event until after their last.
	byIndex map[uint32]*target.Target
	roster  atomic.Pointer[roster]

	env     target.Environment // of the targets
	found   *discover.Finder
	closing sync.WaitGroup // targets whose probes are being taken off
}

// New sets up a Collector. In ModeAuto it falls back to snapshots where eBPF can't be had, and Agent says why; in
// ModeEBPF that is an error.
func New(o Options) (Collector, error) {
	c := newCollect(o)
	o = c.o
	if o.Mode != ModeSnapshot {
		k, err := kernel.Load(c.o.kernel())
		switch {
		case err == nil:
			c.kernel, c.env.Kernel, c.info.Mode = k, k, "ebpf"
			c.heart.Shared = k.Objects.AgentAliveUntil
			c.info.NeedsAdmin = k.NeedsAdmin() || lack.ReadHost("/").PerfRestricted()
			if why := k.WhyNoProbes(); why != nil {
				c.info.lack(kernel.LackOf(lack.Stops, why))
				o.Log.Warn("no probes: "+lack.WithoutStops, "err", why, "fix", kernel.FixFor(why))
			}
			if err := k.StartSamples(c.o.SampleHz); err != nil {
				c.info.lack(kernel.LackOf(lack.Samples, err))
				o.Log.Warn("no samples: "+lack.WithoutSamples, "err", err, "fix", kernel.FixFor(err))
			}
		case o.Mode == ModeEBPF:
			return nil, fmt.Errorf("eBPF can't be used: %w; %s", err, kernel.FixFor(err))
		default:
			c.info.lack(kernel.LackOf(lack.EBPF, err))
			o.Log.Warn("eBPF can't be used; only snapshots are taken", "err", err, "fix", kernel.FixFor(err))
		}
	} else {
		c.info.lack(lack.ModeIsSnapshot())
	}
	if o.Migrations && c.kernel == nil {
		c.info.lack(lack.MigrationsNeedEBPF())
	}
	return c, nil
}

// newCollect is a collector without a kernel side.
func newCollect(o Options) *collect {
	o.defaults()
	c := &collect{
		o: o, clock: ledger.NewClock(), made: time.Now(),
		observed: map[pstate.Key]*target.Target{}, byIndex: map[uint32]*target.Target{},
	}
	c.info.AgentInfo = AgentInfo{Mode: string(ModeSnapshot), Kernel: kernelRelease(), Arch: runtime.GOARCH}
	c.env = target.Environment{
		Proc: o.proc(), Clock: c.clock, Heart: &c.heart, Groups: cgroup.NewReader(o.ProcRoot), Sink: o.Sink, Log: o.Log,
		Limits: kernel.NewLimits(&c.hung), SnapshotEvery: o.SnapshotEvery, IntervalBudget: o.IntervalBudget,
		CostBudget: o.CostBudget, CostFloor: o.CostFloor, Migrations: o.Migrations, NoStops: o.NoStops,
		Cycle: o.Windows,
	}
	c.rosterChanged()
	c.found = discover.New(o.finder(), c, o.Include, o.Exclude)
	return c
}

// agentInfo is AgentInfo as it comes to be.
type agentInfo struct {
	mu sync.Mutex
	AgentInfo
}

// lack notes what is missing, once.
func (a *agentInfo) lack(l Lack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.Lacks, l) {
		a.Lacks = append(a.Lacks, l)
	}
}

func (a *agentInfo) snapshotReason() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.Lacks {
		if l.What == lack.EBPF {
			return lack.SnapshotsOnly(l.Why)
		}
	}
	return ""
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// Run implements Collector.
func (c *collect) Run(ctx context.Context) error {
	c.heart.Beat()
	var wg sync.WaitGroup
	wg.Go(func() { c.found.Run(ctx) })
	if c.kernel != nil && (!c.o.NoStops || c.o.Migrations) {
		wg.Go(c.measureTrap)
	}
	// One timer for all, because every wake-up costs, also that of the runtime's own monitor: what is due is done
	// together, and between two snapshots the agent wakes only while the ring fills quickly.
	timer := time.NewTimer(0)
	defer timer.Stop()
	begun := time.Now()
	snap, looked, threads, sweep := begun, begun, begun.Add(threadsEvery), begun.Add(sweepEvery)
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			c.shutdown()
			return nil
		case <-timer.C:
		}
		if since, late := c.heart.Beat(); late {
			c.resume(since)
			looked = time.Now()
		}
		now := time.Now()
		c.loopAt.Store(int64(now.Sub(c.made)))
		quickly := c.drain()
		if due(&snap, now, c.o.SnapshotEvery) {
			n := max(1, int((now.Sub(looked)+c.o.SnapshotEvery/2)/c.o.SnapshotEvery))
			looked = now
			snap = snap.Add(wander(c.o.SnapshotEvery))
			if c.snapshots(n) && !c.watched() {
				snap = now.Add(max(c.o.SnapshotEvery, min(2*c.o.SnapshotEvery, maxLull)) - rand.N(c.o.SnapshotEvery/4))
			}
		}
		if due(&threads, now, threadsEvery) {
			c.readThreads()
			c.readCgroups(now)
			c.govern()
			if c.kernel != nil {
				c.kernel.Samples.Check(now, c.o.Log)
			}
			c.checkForLostExecs()
			if c.clock.FollowJump() {
				c.o.Log.Warn("the wall clock jumped; times follow it from here on")
			}
		}
		if due(&sweep, now, sweepEvery) {
			c.sweepThreads()
			c.renewWords()
		}
		wait := time.Until(snap)
		if quickly || wait > maxLull {
			wait = min(wait, drainEvery)
		}
		timer.Reset(max(wait, time.Millisecond))
	}
}

// wander is by how much the next snapshot is taken earlier or later than its period says: a quarter of it at most.
// Looks at even distances would see what a program does at the same rhythm always or never; so they come past each
// phase of it within seconds.
func wander(every time.Duration) time.Duration { return rand.N(every/2) - every/4 }

// measureTrap makes what is said of the cost of uprobes that of this machine.
func (c *collect) measureTrap() {
	if err := c.kernel.MeasureTrap(); err != nil {
		c.o.Log.Info("what a hit of a uprobe costs could not be measured on this machine", "assumed",
			c.kernel.TrapCost(),
			"err", err)
	}
}

// checkForLostExecs makes the finder look for itself if an exec may be among the events that did not fit into the
// ring.
func (c *collect) checkForLostExecs() {
	if c.kernel == nil {
		return
	}
	if n := c.kernel.GlobalLostOf(kern.ScopeLostReasonLOST_RING_FULL); n != c.ringFull {
		c.ringFull = n
		c.found.FellBehind()
	}
}

// due says whether something is to be done now, and when it is next. What has fallen behind is left out, not made up
// for.
func due(next *time.Time, now time.Time, every time.Duration) bool {
	// What is due within a moment is done together with what is due now.
	if now.Before(next.Add(-every / 10)) {
		return false
	}
	*next = next.Add(every)
	if next.Before(now) {
		*next = now.Add(every)
	}
	return true
}

func (c *collect) shutdown() {
	for _, o := range c.all() {
		c.forget(o)
	}
	closed := make(chan struct{})
	go func() {
		c.closing.Wait()
		close(closed)
	}()
	timeout := time.NewTimer(shutdownWithin)
	defer timeout.Stop()
	hangs := c.found.Counts.Left.Load() > 0
	select {
	case <-closed:
	case <-timeout.C:
		hangs = true
		c.o.Log.Warn("not every probe could be taken out in time; the kernel takes them out when the agent has ended")
	}
	switch {
	case c.kernel == nil:
	case hangs: // and may yet come back and use the tables
		c.kernel.Unload()
	default:
		c.kernel.Close()
	}
}

// shutdownWithin bounds how long the end waits for probes that are being taken out.
const shutdownWithin = 10 * time.Second

// observe starts the observation of a process whose binary is understood.
func (c *collect) observe(info pstate.Target, uid uint32, bin *goruntime.Binary,
	library *process.Mapped) (*target.Target, error) {
	only := c.onlySnapshots(info.Key)
	if c.kernel == nil {
		only = c.info.snapshotReason()
	}
	o, err := target.Open(&c.env, info, uid, bin, library, only)
	if err == nil {
		c.expect(o)
		err = o.Enter()
	}
	if err != nil {
		c.silence(o)
		c.close(o)
		return nil, err
	}
	o.StartMigrations()
	return o, nil
}

// expect makes events of a target find it; they may come before it is listed as observed.
func (c *collect) expect(o *target.Target) {
	if o.Index() == 0 {
		return
	}
	c.mu.Lock()
	c.byIndex[o.Index()] = o
	c.rosterChanged()
	c.mu.Unlock()
}

func (c *collect) unexpect(o *target.Target) {
	c.mu.Lock()
	if c.byIndex[o.Index()] == o {
		delete(c.byIndex, o.Index())
		c.rosterChanged()
	}
	c.mu.Unlock()
}

// snapshots reads the memory of all targets, n periods after the last time, and says whether nothing was read of any.
func (c *collect) snapshots(n int) (quiet bool) {
	quiet = true
	for _, o := range c.all() {
		if err := o.Snapshot(n); err != nil {
			c.ended(o, err)
			if errors.Is(err, refusal.ErrNoAnswer) {
				c.heart.Beat() // that took seconds, and the next one may, too: the agent is there all the same
			}
		}
		quiet = quiet && o.Quiet()
	}
	c.sampleAsNeeded(time.Now())
	return quiet
}

// ended closes a target that can no longer be read: it exited, became another program, or the agent may not look any
// more.
func (c *collect) ended(o *target.Target, err error) {
	c.forget(o)
	if errors.Is(err, refusal.ErrExited) {
		return
	}
	if errors.Is(err, refusal.ErrNoAnswer) {
		c.hung.Add(1)
	}
	c.o.Log.Warn("a target can no longer be observed", "process", o.Process(), "pid", o.PID(), "err", err)
	c.found.Changed(o.PID())
}

// forget ends the observation of a target and tells the sink. It is false if somebody else has done so.
func (c *collect) forget(o *target.Target) bool {
	c.mu.Lock()
	listed := c.observed[o.Key()] == o
	if listed {
		delete(c.observed, o.Key())
		c.rosterChanged()
	}
	c.mu.Unlock()
	if !listed {
		return false
	}
	c.silence(o)
	o.Finish()
	// Neither the reader of the ring nor the search for processes waits for this.
	c.closing.Go(func() { c.close(o) })
	return true
}

// silence ends what the kernel side says of a target, and takes in what it has said until now.
func (c *collect) silence(o *target.Target) {
	if o.Silence() {
		c.drain()
	}
}

// close ends the observation of a target that is silent, and gives back what it had of the tables.
func (c *collect) close(o *target.Target) {
	o.Close()
	// A program that was running when the target was left may send an event yet, or hold one back that others stand
	// behind.
	if o.Index() != 0 && c.indexed().at(o.Index()) == o {
		time.Sleep(drainEvery)
		c.drain()
	}
	c.unexpect(o)
	o.Release()
}

// watchedWithin is how close two calls of Views must be for somebody to be looking on live.
const watchedWithin = 300 * time.Millisecond

// watched says whether somebody looks on live, so that what the ring holds should not wait.
func (c *collect) watched() bool {
	return time.Now().UnixNano()-c.viewedBefore.Load() < int64(2*watchedWithin)
}

// Views implements Collector.
func (c *collect) Views(time.Time) []pstate.TargetView {
	c.viewedBefore.Store(c.viewed.Swap(time.Now().UnixNano()))
	if !c.heart.Wait() {
		return nil // nobody knows what the targets do now
	}
	all := c.all()
	out := make([]pstate.TargetView, 0, len(all))
	for _, o := range all {
		if v, ok := o.View(); ok {
			out = append(out, v)
		}
	}
	if c.heart.Silent() {
		return nil
	}
	return out
}

// Targets implements Collector.
func (c *collect) Targets() []pstate.Target {
	byKey := map[pstate.Key]pstate.Target{} // one may just become the other
	for _, t := range c.found.Refused.All() {
		byKey[t.Key] = t
	}
	for _, o := range c.all() {
		byKey[o.Key()] = o.Description()
	}
	out := slices.Collect(maps.Values(byKey))
	slices.SortFunc(out, func(a, b pstate.Target) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.Runtime, b.Runtime))
	})
	return out
}

// LastRound implements Collector.
func (c *collect) LastRound() time.Time { return c.made.Add(time.Duration(c.loopAt.Load())) }

// Agent implements Collector.
func (c *collect) Agent() AgentInfo {
	c.info.mu.Lock()
	out := c.info.AgentInfo
	out.Lacks = slices.Clone(out.Lacks)
	c.info.mu.Unlock()
	if l, n := c.found.Hidden.Lack(); n > 0 {
		out.Lacks = append(out.Lacks, l)
	}
	out.GlobalLost = map[string]uint64{}
	counts := &c.found.Counts
	for reason, n := range map[string]uint64{
		loss.AgentPaused:         c.heart.Pauses.Load(),
		loss.EndedBeforeObserved: counts.Missed.Load(),
		loss.EndedBeforeRead:     counts.Unread.Load(),
		loss.RoomGiven:           counts.RoomGiven.Load(),
		loss.FileNoAnswer:        counts.Hung.Load() + c.hung.Load(),
	} {
		if n > 0 {
			out.GlobalLost[reason] = n
		}
	}
	if c.kernel != nil {
		if l, ok := c.kernel.Samples.Lack(); ok {
			out.Lacks = append(out.Lacks, l)
		}
		maps.Copy(out.GlobalLost, c.kernel.GlobalLost())
		if n := c.orphans.Load(); n > 0 {
			out.GlobalLost[loss.EndedTarget] = n
		}
	}
	return out
}
