package collector

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/cgroup"
	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/goruntime"
	goprobes "github.com/p-scope/p-scope/pkg/goruntime/probes"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// observed is one target under observation.
type observed struct {
	c    *collect
	info pstate.Target
	uid  uint32 // whose room it takes
	// begun is when its observation was begun, in ticks; threadsHeld how many threads it has in the table.
	begun       uint64
	threadsHeld atomic.Int64
	bin         *goruntime.Binary
	proc        *process.Process
	// library is what the runtime came in; nil: it is the program's own.
	library *process.Mapped
	// only says why the target is observed by snapshots alone although there is a kernel side; empty: it is not.
	only string

	index  uint32            // in the table of targets; 0 without eBPF
	shared *kern.ScopeTarget // in kernel memory, or the agent's own without eBPF
	chunks []uint16

	wanted   uint64      // raw intervals it had or would have had, when the budgets were refilled last; c.drainMu guards it
	learning atomic.Bool // samples taken more often would teach something of it

	probing sync.WaitGroup // while probes of tier 1 are attached or taken out
	gone    chan struct{}  // closed when the observation ends

	mu         sync.Mutex // guards what follows, and the snapshot
	stopsState stopsState
	links      []io.Closer // tier 1, all of it or nothing
	ps         []*observedP
	snap       process.Snapshot
	gomaxprocs int32
	globalRunq int32
	globalSum  uint64 // of goroutines in globalRunq, over all looks
	globalN    uint64 // those looks
	stops      map[string]pstate.Histogram
	lost       map[string]uint64 // counted by the agent; the kernel's are in shared
	repaired   map[string]uint64
	lags       [kern.ScopeLagLAGS]lag
	lagsAt     uint64 // tick
	resting    resting
	roomless   int    // Ps of the target when not all of them could be observed and that was logged last; 0: it never was
	received   uint64 // intervals and stops that came through the ring
	scratch    []pstate.Interval
	threads    []pstate.ThreadView
	threadsAt  int64 // Unix ns
	gov        governor
	fullReason string      // info.Reason while the governor leaves nothing out
	migrations *migrations // tier 2; nil unless it is asked for
	windows    windows
	blind      bool          // the governor leaves nothing but snapshots
	paused     time.Duration // in which nothing was observed: the states of a P sum to wall time less this
	closed     bool
	// What its control groups say, and what last suspended it. group is nil until it has been found.
	group               *cgroup.Group
	groupAt, cgroupAt   time.Time
	cgroup              *pstate.Cgroup
	stoppedBy, frozenBy pstate.Suspension
}

// observedP is one P of a target.
type observedP struct {
	rec         *kern.ScopeP_record
	id          int32
	runqDepth   int32
	runqHist    [pstate.RunqBuckets]uint64
	runqSum     uint64
	runqIdle    uint64
	runqIdleSum uint64
	schedTick   wide
	syscallTick wide
	ledger      ledger
	renewed     renewed
	disagreed   bool       // the last snapshot saw something else than the record
	windowed    *windowedP // what it is estimated by; nil unless the target is observed in windows
	overcounted uint64     // d_word when its count was last found higher than the threads say; 0: it was not

	pending   []segment // closed, not yet handed to the sink
	lastEnd   uint64    // tick up to which the sink has intervals
	told      matrix    // the lengths of the intervals that the sink has, by state
	firstSeen int64
}

// wide follows a 32-bit counter of the runtime past its overflow.
type wide struct {
	low   uint32
	total uint64
	begun bool
}

func (w *wide) see(v uint32) {
	if w.begun {
		w.total += uint64(v - w.low)
	} else {
		w.total, w.begun = uint64(v), true
	}
	w.low = v
}

// observe starts the observation of a process whose binary is understood: of the runtime in its program or, where one
// is named, in a library it has loaded.
func (c *collect) observe(info pstate.Target, uid uint32, bin *goruntime.Binary,
	library *process.Mapped) (o *observed, err error) {
	o = &observed{
		c: c, info: info, uid: uid, begun: nowTick(), bin: bin, library: library, only: c.onlySnapshots(info.Key), globalRunq: -1,
		gov:   newGovernor(c.o.CostBudget, c.o.CostFloor),
		gone:  make(chan struct{}),
		stops: map[string]pstate.Histogram{}, lost: map[string]uint64{}, repaired: map[string]uint64{}, lags: newLags(),
	}
	defer func() {
		if err != nil {
			o.silence()
			o.close()
			o = nil
			return
		}
		o.watchMigrations()
	}()
	if o.proc, err = o.open(); err != nil {
		return o, err
	}
	if err = o.proc.Validate(); err != nil {
		return o, err
	}
	o.info.Source, o.info.Layout = pstate.SourceSnapshot, bin.LayoutSource
	if o.kernel() == nil {
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
	if o.kernel() == nil {
		if o.info.Reason = o.only; o.only == "" {
			o.info.Reason = c.info.snapshotReason()
		}
		return o, nil
	}
	o.info.Source = pstate.SourceEBPF
	c.expect(o)
	if err = c.kernel.enter(info.PID, o.index); err != nil {
		return o, err
	}
	// The events that follow need the threads; those asleep would otherwise be unknown until they run.
	o.enterThreads()
	if c.o.Windows > 0 {
		o.mu.Lock()
		o.startWindows(c.o.Windows)
		o.mu.Unlock()
	}
	if c.o.NoStops {
		o.info.Reason = lack.NoStops(lack.StopsSwitchedOff)
		o.fullReason = o.info.Reason
		return o, nil
	}
	o.info.Reason = lack.NoStops(lack.StopsComing)
	o.fullReason = o.info.Reason
	o.mu.Lock()
	o.wantStops(true)
	o.mu.Unlock()
	return o, nil
}

// open opens the process.
func (o *observed) open() (*process.Process, error) {
	if o.library != nil {
		return process.OpenLibrary(int(o.info.PID), o.bin, *o.library)
	}
	return process.Open(int(o.info.PID), o.bin)
}

// kernel is the kernel side that observes the target; nil where there is none, or not for this target.
func (o *observed) kernel() *kernelSide {
	if o.only != "" {
		return nil
	}
	return o.c.kernel
}

// claim takes a place in the kernel's table and fills in where things are.
func (o *observed) claim() (err error) {
	k := o.c.kernel
	// A place rests for two seconds after its use. Those that wait for room for their Ps don't use them up.
	if err = k.admit(o.uid, roomForPs, 1); err != nil {
		return err
	}
	threads := 1
	if stat, err := o.c.o.readStat(o.info.PID); err == nil {
		threads = stat.threads
	}
	if err = k.admit(o.uid, roomForThreads, threads); err != nil {
		return err
	}
	if o.index, err = k.takeTarget(o.uid, threads); err != nil {
		return err
	}
	o.shared = &k.targets[o.index]
	l := &o.bin.Layout
	if err := beyondReach(o.bin); err != nil {
		return err
	}
	// Where the linker puts the slot unless the program brings thread-local data of its own; a wrong guess is harmless, because an m found
	// this way must name the thread.
	tlsG := int32(-8)
	if off, ok := o.proc.TLSG(); ok {
		tlsG = int32(off)
	}
	// Without cgo no thread ever takes over another's m, and need not be asked each time whether it did.
	keepsM := uint16(flag(!o.bin.Cgo && l.M.CurG <= l.M.P && l.M.P < l.M.NextP && l.M.P+16-l.M.CurG < 8*int32(kern.ScopeReachM_SCHED_WORDS)))
	started, _ := o.bin.Probe(goprobes.WorldStarted)
	*o.shared = kern.ScopeTarget{
		Tgid: uint32(o.info.PID),
		Layout: kern.ScopeLayout{
			TlsG: tlsG, G_m: uint16(l.G.M), G_atomicstatus: uint16(l.G.AtomicStatus), G_gopc: uint16(l.G.GoPC),
			M_procid: uint16(l.M.ProcID), M_curg: uint16(l.M.CurG), M_p: uint16(l.M.P), M_nextp: uint16(l.M.NextP),
			M_syscalltick: uint16(l.M.SyscallTick),
			P_status:      uint16(l.P.Status), P_link: uint16(l.P.Link), P_schedtick: uint16(l.P.SchedTick),
			P_syscalltick: uint16(l.P.SyscallTick), P_m: uint16(l.P.M), P_gcmode: uint32(l.P.GCMarkWorkerMode),
			FixedM: keepsM, InPidNamespace: uint16(flag(o.c.o.nestedPID(o.info.PID))),
			HasStopStartArg: uint16(flag(o.bin.StopBegun())), StopEndSpOffset: started.Ended,
			GcWorkerFrom: o.proc.Addr(o.bin.GCWorkers[0]), GcWorkerTo: o.proc.Addr(o.bin.GCWorkers[1]),
			SchedPidle: o.proc.Addr(o.bin.Vars.Sched) + uint64(l.Sched.PIdle),
		},
		Intervals: 1, NoGcstopFrom: never, MarkingUntil: never,
		SentLimit: uint64(o.c.o.IntervalBudget),
	}
	return nil
}

// grow makes records for the Ps of the snapshot that have none yet. The caller holds mu or is alone.
func (o *observed) grow() error {
	if most := chunkPs * len(o.shared.Chunk); len(o.ps) == 0 && len(o.snap.Ps) > most {
		return &roomError{sentence: fmt.Sprintf("GOMAXPROCS is %d and a process with more than %d Ps can't be observed",
			len(o.snap.Ps), most)}
	}
	grows := len(o.ps) > 0 // by as many chunks as there are, one after the other
	if k := o.kernel(); k != nil && !grows {
		if err := k.admit(o.uid, roomForPs, chunksFor(len(o.snap.Ps))); err != nil {
			return err // it takes nothing from its neighbours
		}
	}
	for i := len(o.ps); i < len(o.snap.Ps); i++ {
		if i >= chunkPs*len(o.shared.Chunk) {
			return fmt.Errorf("GOMAXPROCS is %d and %d Ps are observed at most", len(o.snap.Ps), i)
		}
		p := &observedP{id: int32(i), runqDepth: -1}
		slot := 0
		if k := o.kernel(); k != nil {
			if i%chunkPs == 0 {
				if grows {
					if err := k.admit(o.uid, roomForPs, 1); err != nil {
						return err
					}
				}
				chunk, err := k.takeChunk(o.uid)
				if err != nil {
					return err
				}
				o.chunks = append(o.chunks, chunk)
			}
			slot = int(o.chunks[i/chunkPs])*chunkPs + i%chunkPs
			p.rec = &k.records[slot]
		} else {
			p.rec = &kern.ScopeP_record{}
		}
		now := nowTick()
		seen := &o.snap.Ps[i]
		owner, state, thread := o.sight(seen)
		*p.rec = kern.ScopeP_record{
			Word: uint64(wordOf(now, owner, state, thread)), Birth: now, Addr: seen.Addr,
			Target: o.index, Id: uint32(i), Schedtick: seen.SchedTick,
		}
		p.lastEnd, p.firstSeen = now, o.c.clock.unix(now)
		o.ps = append(o.ps, p)
		if o.kernel() == nil {
			continue
		}
		if i%chunkPs == 0 {
			o.shared.Chunk[i/chunkPs] = o.chunks[i/chunkPs]
		}
		o.enterAddress(slot, seen.Addr)
	}
	atomic.StoreUint32(&o.shared.N_ps, uint32(len(o.ps)))
	return nil
}

// carrier is the thread that carries a P according to the snapshot; 0 if none does, or none is known.
func (o *observed) carrier(p *process.PSnapshot) uint32 {
	if p.MIndex < 0 || int(p.MIndex) >= len(o.snap.Ms) {
		return 0
	}
	return uint32(max(o.snap.Ms[p.MIndex].TID, 0))
}

// sight is what a snapshot says of a P: the thread that carries it, its state, and that thread's state.
func (o *observed) sight(p *process.PSnapshot) (owner uint32, s pstate.State, t pstate.ThreadState) {
	switch p.State {
	case pstate.Idle, pstate.GCStop, pstate.Dead:
		return 0, p.State, pstate.NoThread
	}
	t = pstate.OnCPU
	if owner = o.carrier(p); owner != 0 {
		if ts, _, err := o.threadState(int32(owner)); err == nil {
			t = ts
		}
	}
	return owner, p.State, t
}

// enterThreads makes the runtime's Ms known to the kernel side. Threads that it has met meanwhile are left alone.
func (o *observed) enterThreads() {
	now := nowTick()
	for i := range o.snap.Ms {
		m := &o.snap.Ms[i]
		if m.TID <= 0 {
			continue
		}
		state, comm, err := o.threadState(m.TID)
		if err != nil {
			continue // it has ended
		}
		th := kern.ScopeThread{
			Word: uint64(wordOf(now, 0, 0, state)), M: m.Addr, SwitchIn: now, Tid: uint32(m.TID), Target: o.index, Tgid: uint32(o.info.PID),
		}
		for j := range min(len(comm), len(th.Comm)-1) {
			th.Comm[j] = int8(comm[j])
		}
		var p *observedP
		for _, q := range o.ps {
			if word(atomic.LoadUint64(&q.rec.Word)).owner() == uint32(m.TID) {
				p = q
			}
		}
		if p != nil {
			th.Slot = uint32(o.slot(p.id)) + 1
			th.LastSlot = th.Slot
		} else if last := o.lastP(m); last != nil {
			th.LastSlot = uint32(o.slot(last.id)) + 1
			p = last
		}
		if p != nil && state == pstate.Uninterruptible {
			th.D_slot = th.LastSlot
		}
		// An entry of a target that had this process's number before is not one the kernel side has made since.
		table := &o.c.kernel.threads
		if old := table.find(uint32(m.TID)); old != nil && (old.Target != o.index || old.Tgid != uint32(o.info.PID)) {
			table.remove(uint32(m.TID))
		}
		// It is counted before its entry says so: who finds the entry saying so takes it back.
		if th.D_slot != 0 {
			countD(p.rec, now)
		}
		err = table.add(uint32(m.TID), &th)
		if err != nil && th.D_slot != 0 {
			oneLessInD(p.rec)
		}
		if errors.Is(err, errThreadKnown) {
			continue
		}
		if err != nil {
			o.lost["threads_full"]++
		}
	}
}

// lastP is the P that an M without one had when it entered the call it is in; nil if it is in none.
func (o *observed) lastP(m *process.MSnapshot) *observedP {
	if m.OldP == 0 || !m.InSyscall() {
		return nil
	}
	for _, p := range o.ps {
		if p.rec.Addr == m.OldP {
			return p
		}
	}
	return nil
}

func (o *observed) slot(p int32) int { return int(o.chunks[int(p)/chunkPs])*chunkPs + int(p)%chunkPs }

// seen says whether the kernel side sees the target at the moment. The caller holds mu.
func (o *observed) seen() bool { return o.index != 0 && !o.blind && !o.windows.between }

// observedRatio is the share of the time in which it does.
func (o *observed) observedRatio() float64 {
	switch {
	case o.blind:
		return 0
	case o.windows.on:
		return 1 / float64(o.windows.every)
	}
	return 1
}

// silence ends what the kernel side says of the target, and takes in what it has said until now.
func (o *observed) silence() {
	if o.index != 0 {
		o.c.kernel.leave(o.info.PID, o.index)
		o.c.drain()
	}
}

// close ends the observation; silence comes first. The process may still live. It takes a while: the kernel waits until no CPU can be in a probe any more.
func (o *observed) close() {
	o.mu.Lock()
	o.closed = true
	o.wantStops(false) // tiers 1 and 2 leave at the same time
	if o.proc != nil {
		o.proc.Close()
		o.proc = nil
	}
	o.mu.Unlock()
	close(o.gone)
	o.endMigrations()
	o.probing.Wait()
	if o.index != 0 {
		// A program that was running when the target was left may send an event yet, or hold one back that others stand
		// behind.
		if o.c.indexed().at(o.index) == o {
			time.Sleep(drainEvery)
			o.c.drain()
		}
		o.c.unexpect(o)
		o.c.kernel.giveBack(o.uid, o.index, o.chunks)
	}
}

// lostInKernel is what the kernel side counted of a kind of loss. The caller holds mu.
func (o *observed) lostInKernel(reason kern.ScopeLostReason) (n uint64) {
	if reason != kern.ScopeLostReasonLOST_INTERVAL_BUDGET {
		return atomic.LoadUint64(&o.shared.Lost[reason])
	}
	for _, p := range o.ps {
		n += atomic.LoadUint64(&p.rec.Unsent)
	}
	return n
}

// view is the target with everything known of it at one instant. ok is false once it has been closed.
func (o *observed) view() (v pstate.TargetView, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return v, false
	}
	o.bringUp()
	v = pstate.TargetView{
		Target: o.info, GOMAXPROCS: o.gomaxprocs, GlobalRunq: o.globalRunq,
		GlobalRunqLooks: o.globalN, GlobalRunqSum: o.globalSum,
		Ps:      make([]pstate.PView, len(o.ps)),
		Threads: o.threads, ThreadsAt: o.threadsAt, Paused: o.paused,
		Cgroup: o.cgroup, StoppedBy: o.stoppedBy, FrozenBy: o.frozenBy,
		StopHist: maps.Clone(o.stops), Lost: maps.Clone(o.lost), Reconciled: maps.Clone(o.repaired),
	}
	for i, name := range lostReasons {
		if n := o.lostInKernel(kern.ScopeLostReason(i)); n > 0 {
			v.Lost[name] += n
		}
	}
	if o.index != 0 {
		v.Governor = pstate.Governor{Governed: o.gov.budget > 0, Level: o.gov.level, Share: o.gov.share, Observed: o.observedRatio()}
		v.ProbeTime = map[string]time.Duration{"0+1": time.Duration(atomic.LoadUint64(&o.shared.ProbeNs))}
	}
	// All are brought up to the instant at which the last one was read, whatever kept the agent from its CPU in between.
	raws := make([]totals, len(o.ps))
	var at uint64
	for i, p := range o.ps {
		var ok bool
		if raws[i], ok = read(p.rec); !ok {
			o.repaired["unfinished"]++
		}
		at = max(at, raws[i].now)
	}
	for i, p := range o.ps {
		raw := &raws[i]
		raw.time[cell(raw.word.state(), raw.word.thread())] += at - raw.now
		raw.now = at
		o.viewP(p, &v.Ps[i], raw)
	}
	o.viewMigrations(&v)
	v.At = o.c.clock.unix(at)
	return v, true
}

func (o *observed) viewP(p *observedP, v *pstate.PView, raw *totals) {
	r := p.rec
	samples := [2]uint64{atomic.LoadUint64(&r.Samples[1]), atomic.LoadUint64(&r.Samples[2])}
	shown := p.ledger.show(raw.time, samples)
	since := p.renewed.of(uint64(raw.word), sinceTick(raw.now, uint64(raw.word)))
	*v = pstate.PView{
		P: p.id, State: raw.word.state(), Thread: raw.word.thread(), Since: o.c.clock.unix(since), TID: int32(raw.word.owner()),
		RunqDepth: p.runqDepth, RunqHist: p.runqHist, RunqSum: p.runqSum, RunqIdle: p.runqIdle, RunqIdleSum: p.runqIdleSum, SchedTick: p.schedTick.total, SyscallTick: p.syscallTick.total,
		Time: shown.durations(), FirstSeen: p.firstSeen,
		StopTime: time.Duration(atomic.LoadUint64(&r.StopTime)) * tick,
	}
	d := atomic.LoadUint64(&r.D_time)
	if w := atomic.LoadUint64(&r.D_word); w>>sinceBits > 0 {
		d += elapsed(raw.now, w)
	}
	v.Uninterruptible = time.Duration(d) * tick
	for i := range r.Moves {
		v.Transitions[i/pstate.NumStates][i%pstate.NumStates] = atomic.LoadUint64(&r.Moves[i])
	}
	for i := range r.Wake {
		n := atomic.LoadUint64(&r.Wake[i])
		v.WakeWait.Buckets[i] = n
		v.WakeWait.Count += n
	}
	v.WakeWait.Sum = time.Duration(atomic.LoadUint64(&r.WakeSum))
}
