package target

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/estimate"
	"github.com/p-scope/p-scope/pkg/collector/govern"
	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/collector/migration"
	"github.com/p-scope/p-scope/pkg/collector/stops"
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Target is one target under observation.
type Target struct {
	env    *Environment
	kernel *kernel.Side // nil: the target is observed by snapshots alone
	infoMu sync.Mutex   // guards what may change of info: source and reason
	info   pstate.Target
	uid    uint32 // whose room it takes
	// begun is when its observation was begun, in ticks; threadsHeld how many threads it has in the table.
	begun       uint64
	threadsHeld atomic.Int64
	bin         *goruntime.Binary
	proc        *process.Process
	// library is what the runtime came in; nil: it is the program's own.
	library *process.Mapped

	index  uint32            // in the table of targets; 0 without eBPF
	shared *kern.ScopeTarget // in kernel memory, or the agent's own without eBPF
	chunks []uint16

	// wanted is how many raw intervals it had or would have had when it was last asked. Whoever takes the events guards
	// it.
	wanted   uint64
	learning atomic.Bool // samples taken more often would teach something of it

	mu         sync.Mutex // guards what follows, and the snapshot
	ps         []*P
	snap       process.Snapshot
	gomaxprocs int32
	globalRunq int32
	globalSum  uint64 // of goroutines in globalRunq, over all looks
	globalN    uint64 // those looks
	stops      map[string]pstate.Histogram
	lost       map[string]uint64 // counted by the agent; the kernel's are in shared
	repaired   map[string]uint64
	lags       [kern.ScopeLagLAGS]ledger.Lag
	lagsAt     uint64 // tick
	idle       idleWatch
	// Ps of the target when not all of them could be observed and that was logged last; 0: it never was
	unplacedPs int
	received   uint64 // intervals and stops that came through the ring
	scratch    []pstate.Interval
	threads    []pstate.ThreadView
	threadsAt  int64 // Unix ns
	gov        govern.Governor
	probes     *stops.Probes      // tier 1; nil without eBPF
	migrations *migration.Counter // tier 2; nil unless it is asked for
	cycle      dutyCycle
	blind      bool          // the governor leaves nothing but snapshots
	paused     time.Duration // in which nothing was observed: the states of a P sum to wall time less this
	closed     bool
	control    controlGroup
}

// P is one P of a target.
type P struct {
	rec         *kern.ScopeP_record
	id          int32
	runqDepth   int32
	runqHist    [pstate.RunqBuckets]uint64
	runqSum     uint64
	runqIdle    uint64
	runqIdleSum uint64
	schedTick   wide
	syscallTick wide
	ledger      ledger.Ledger
	renewed     ledger.Renewed
	disagreed   bool        // the last snapshot saw something else than the record
	estimated   *estimate.P // what it is estimated by; nil unless the target has a duty cycle
	overcounted uint64      // d_word when its count was last found higher than the threads say; 0: it was not

	intervals ledger.Intervals
	firstSeen int64
}

// wide follows a 32-bit counter of the runtime past its overflow.
type wide struct {
	low   uint32
	total uint64
	begun bool
}

func (w *wide) follow(v uint32) {
	if w.begun {
		w.total += uint64(v - w.low)
	} else {
		w.total, w.begun = uint64(v), true
	}
	w.low = v
}

// Open prepares the observation of a process whose binary is understood: of the runtime in its program or, where
// one is named, in a library it has loaded. only says why it is observed by snapshots alone although there is a kernel
// side; empty: it is not. The target must be closed, also after an error.
func Open(env *Environment, info pstate.Target, uid uint32, bin *goruntime.Binary, library *process.Mapped,
	only string) (o *Target, err error) {
	o = &Target{
		env: env, info: info, uid: uid, begun: ledger.Now(), bin: bin, library: library, globalRunq: -1,
		gov:   govern.New(env.CostBudget, env.CostFloor),
		stops: map[string]pstate.Histogram{}, lost: map[string]uint64{}, repaired: map[string]uint64{},
		lags:    ledger.NewLags(),
		control: controlGroup{reader: env.Groups, proc: env.Proc, log: env.Log, pid: info.PID},
	}
	if only == "" {
		o.kernel = env.Kernel
	}
	if o.proc, err = o.open(); err != nil {
		return o, err
	}
	if err = o.proc.Validate(); err != nil {
		return o, err
	}
	o.info.Source, o.info.Layout = pstate.SourceSnapshot, bin.LayoutSource
	if o.kernel == nil {
		o.info.Reason = only
		o.shared = &kern.ScopeTarget{Tgid: uint32(info.PID)}
	} else if err = o.claim(); err != nil {
		return o, err
	}
	if err = o.proc.Snapshot(&o.snap, true); err != nil {
		return o, err
	}
	if err = o.grow(); err != nil {
		return o, err
	}
	if o.kernel != nil {
		o.info.Source = pstate.SourceEBPF
	}
	return o, nil
}

// Enter makes the kernel side observe the target. Its events may come at once. Without a kernel side it does nothing.
func (o *Target) Enter() error {
	if o.kernel == nil {
		return nil
	}
	if err := o.kernel.Enter(o.info.PID, o.index); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	// The events that follow need the threads; those asleep would otherwise be unknown until they run.
	o.enterThreads()
	if o.env.Cycle > 0 {
		o.startCycle(o.env.Cycle)
	}
	o.probes = stopProbesOf(o)
	o.describeLevel()
	if !o.env.NoStops {
		o.probes.Want(true)
	}
	return nil
}

// open opens the process.
func (o *Target) open() (*process.Process, error) {
	if o.library != nil {
		return process.OpenLibrary(int(o.info.PID), o.bin, *o.library)
	}
	return process.Open(int(o.info.PID), o.bin)
}

// seen says whether the kernel side sees the target at the moment. The caller holds mu.
func (o *Target) seen() bool { return o.index != 0 && !o.blind && !o.cycle.off }

// observedRatio is the share of the time in which it does.
func (o *Target) observedRatio() float64 {
	switch {
	case o.blind:
		return 0
	case o.cycle.on:
		return 1 / float64(o.cycle.seconds)
	}
	return 1
}

// Silence ends what the kernel side says of the target, and says whether it said anything: events may be on their way
// yet, and should be taken in before the target is closed.
func (o *Target) Silence() bool {
	if o.index != 0 {
		o.kernel.Leave(o.info.PID, o.index)
	}
	return o.index != 0
}

// Close ends the observation; silence comes first. The process may still live. It takes a while: the kernel waits until
// no CPU can be in a probe any more. The target's places in the tables are given back with release.
func (o *Target) Close() {
	o.mu.Lock()
	o.closed = true
	probes := o.probes
	if o.proc != nil {
		o.proc.Close()
		o.proc = nil
	}
	o.mu.Unlock()
	if probes != nil {
		probes.Close() // tiers 1 and 2 leave at the same time
	}
	o.EndMigrations()
	if probes != nil {
		probes.Wait()
	}
}

// Release gives back the target's places in the tables of the kernel side, after close.
func (o *Target) Release() {
	if o.index != 0 {
		o.kernel.GiveBack(o.uid, o.index, o.chunks)
	}
}

// Finish hands over what is left to hand over, after silence.
func (o *Target) Finish() {
	o.mu.Lock()
	o.flush(true)
	o.closed = true
	o.mu.Unlock()
	o.env.Sink.End(o.info.Key, o.env.Clock.Unix(ledger.Now()))
}

// Description is the target as Targets has it.
func (o *Target) Description() pstate.Target {
	o.infoMu.Lock()
	defer o.infoMu.Unlock()
	return o.info
}

// ByEvents says whether the kernel side observes it.
func (o *Target) ByEvents() bool { return o.index != 0 }

// LibraryStart is where the library begins that the runtime is in; 0: it is in the program.
func (o *Target) LibraryStart() uint64 {
	if o.library == nil {
		return 0
	}
	return o.library.Start
}

// Alive says whether the process still runs the program that is observed.
func (o *Target) Alive() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.closed && o.proc.Alive() == nil
}
