package collector

import (
	"bytes"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/cgroup"
	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// What a target's control groups say is read once in a while for all processes of a group together. The freezer's state
// is needed because since Linux 6.1 a thread that sleeps where it may be frozen is frozen in its sleep, without an
// event (kernel/freezer.c, __freeze_task), and because /proc calls frozen threads D (version 1) or S (version 2).
const (
	groupEvery   = 10 * time.Second // how often the groups of a process are looked up: it may be moved
	limitsEvery  = 2 * time.Second
	freezerEvery = 900 * time.Millisecond
	freezerFresh = 50 * time.Millisecond // for a thread whose state was read just now
)

// readCgroups brings what the control groups of every target say up to date.
func (c *collect) readCgroups(now time.Time) {
	for _, o := range c.all() {
		o.readCgroup(now)
	}
}

func (o *observed) readCgroup(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || !o.findGroup(now) {
		return
	}
	if o.cgroup == nil || now.Sub(o.cgroupAt) >= limitsEvery-freezerFresh {
		o.cgroup, o.cgroupAt = o.c.cgroups.Look(o.group, now, limitsEvery/2), now
	}
	if o.seen() {
		o.applyFreezer(now)
	}
	o.findCause(now)
}

// findGroup looks up the process's groups if that was long ago, and says whether they are known. The caller holds mu.
func (o *observed) findGroup(now time.Time) bool {
	if o.groupAt.IsZero() || now.Sub(o.groupAt) >= groupEvery {
		o.groupAt = now
		g, err := o.c.cgroups.GroupOf(o.info.PID)
		if err != nil {
			o.c.o.Log.Debug("the control groups of a process can't be found", "pid", o.info.PID, "err", err)
			return o.group != nil
		}
		o.group = g
	}
	return o.group != nil
}

// threadState reads the state of one of the target's threads. The caller holds mu or is alone.
func (o *observed) threadState(tid int32) (pstate.ThreadState, string, error) {
	t, comm, err := o.c.o.threadState(o.info.PID, tid)
	if err == nil && (t == pstate.Sleeping || t == pstate.Uninterruptible) {
		now := time.Now()
		if o.findGroup(now) && o.c.cgroups.Frozen(o.group, now, freezerFresh) {
			t = pstate.Frozen
		}
	}
	return t, comm, err
}

// suspended says whether a thread that carries a P is stopped or frozen. The caller holds mu.
func (o *observed) suspended() bool { return o.carrierIn(pstate.ThreadState.Suspended) != 0 }

// carrierIn gives a thread that carries a P and is in such a state; 0 if there is none.
func (o *observed) carrierIn(is func(pstate.ThreadState) bool) int32 {
	for _, p := range o.ps {
		if w := word(atomic.LoadUint64(&p.rec.Word)); is(w.thread()) {
			return int32(w.owner())
		}
	}
	return 0
}

// threadIn is carrierIn for all threads that are known.
func (o *observed) threadIn(state pstate.ThreadState) (tid int32, found bool) {
	if tid = o.carrierIn(func(s pstate.ThreadState) bool { return s == state }); tid != 0 {
		return tid, true
	}
	for i := range o.threads {
		if o.threads[i].State == state {
			return o.threads[i].TID, true
		}
	}
	return 0, false
}

// applyFreezer makes threads, and the Ps they carry, say what the freezer did to them without an event. The caller
// holds mu.
func (o *observed) applyFreezer(now time.Time) {
	if o.c.cgroups.Frozen(o.group, now, freezerEvery) {
		o.correctThreads(func(s pstate.ThreadState) bool { return s == pstate.Sleeping || s == pstate.Uninterruptible },
			func(int32) (pstate.ThreadState, bool) { return pstate.Frozen, true })
		return
	}
	if _, found := o.threadIn(pstate.Frozen); !found {
		return
	}
	if state, _ := o.c.cgroups.FreezerOf(o.group, now, 0); state != cgroup.Thawed {
		return
	}
	o.correctThreads(
		func(s pstate.ThreadState) bool { return s == pstate.Frozen },
		func(tid int32) (pstate.ThreadState, bool) {
			s, _, err := o.threadState(tid)
			// One that runs has woken, or will: an event says so.
			return s, err == nil && (s == pstate.Sleeping || s == pstate.Uninterruptible)
		},
	)
}

// correctThreads moves threads that have been in such a state for a while to the one that is given. The caller holds
// mu.
func (o *observed) correctThreads(is func(pstate.ThreadState) bool, to func(tid int32) (pstate.ThreadState, bool)) {
	for i := range o.threads {
		view := &o.threads[i]
		if !is(view.State) {
			continue
		}
		th := o.c.kernel.threads.find(uint32(view.TID))
		if th == nil || th.Target != o.index {
			continue
		}
		old, now := atomic.LoadUint64(&th.Word), nowTick()
		if s := word(old).thread(); !is(s) || elapsed(now, old) < settled/4 {
			continue
		}
		next, ok := to(view.TID)
		if !ok {
			continue
		}
		gone := elapsed(now, old)
		if !atomic.CompareAndSwapUint64(&th.Word, old, uint64(wordOf(now, 0, 0, next))) {
			continue // it has just been woken
		}
		addThreadTime(th, word(old).thread(), gone)
		o.leaveD(th, now)
		o.correctP(uint32(view.TID), is, next, now)
		view.Time[view.State] += time.Duration(max(0, o.c.clock.unix(now)-o.threadsAt))
		view.State, view.Since = next, o.c.clock.unix(now)
		o.repaired["freezer"]++
	}
}

// correctP moves the P that a thread carries along with it.
func (o *observed) correctP(tid uint32, is func(pstate.ThreadState) bool, next pstate.ThreadState, now uint64) {
	for _, p := range o.ps {
		w := word(atomic.LoadUint64(&p.rec.Word))
		if w.owner() == tid && is(w.thread()) && w.state().Busy() {
			closed, _ := swap(p.rec, w, now, tid, w.state(), next, 0)
			o.keep(p, closed[:]...)
		}
	}
}

// leaveD takes a thread out of its P's count of those in uninterruptible sleep, if it is in it (d_leave in
// bpf/observe.h).
func (o *observed) leaveD(th *kern.ScopeThread, now uint64) {
	slot := atomic.LoadUint32(&th.D_slot)
	if slot == 0 || int(slot)-1 >= len(o.c.kernel.records) || !atomic.CompareAndSwapUint32(&th.D_slot, slot, 0) {
		return
	}
	r := &o.c.kernel.records[slot-1]
	for {
		d := atomic.LoadUint64(&r.D_word)
		n := d >> sinceBits
		next := d - 1<<sinceBits
		if n == 0 {
			return
		}
		if n == 1 {
			next = now & sinceMask
		}
		if atomic.CompareAndSwapUint64(&r.D_word, d, next) {
			if n == 1 {
				atomic.AddUint64(&r.D_time, elapsed(now, d))
			}
			return
		}
	}
}

// findCause finds out what keeps threads that are stopped or frozen from running. The caller holds mu.
func (o *observed) findCause(now time.Time) {
	if tid, found := o.threadIn(pstate.Stopped); found {
		s := pstate.Suspension{By: pstate.SuspendedBySignal, At: now.UnixNano()}
		if tracer, ok := o.c.o.tracerOf(o.info.PID, tid); !ok {
			return // it has ended
		} else if tracer != 0 {
			s.By, s.Tracer = pstate.SuspendedByTracer, tracer
			if stat, err := o.c.o.readStat(tracer); err == nil {
				s.TracerName = cleantext.Name(stat.comm, cleantext.MaxName)
			}
		}
		o.stoppedBy = s
	}
	if _, found := o.threadIn(pstate.Frozen); found {
		_, path := o.c.cgroups.FreezerOf(o.group, now, freezerEvery)
		o.frozenBy = pstate.Suspension{By: pstate.SuspendedByFreezer, Cgroup: path, At: now.UnixNano()}
	}
}

// tracerOf gives the process that traces a thread (TracerPid in proc_pid_status(5)); 0 if none does.
func (o *Options) tracerOf(pid, tid int32) (tracer int32, ok bool) {
	thread, ok := o.statusNumber(pid, "task/"+strconv.Itoa(int(tid))+"/status", "TracerPid:")
	if !ok || thread == 0 {
		return 0, ok
	}
	// It is the thread that traces; what people know is its process.
	if tracer, ok = o.statusNumber(thread, "status", "Tgid:"); !ok {
		tracer = thread
	}
	return tracer, true
}

// statusNumber reads a number from a status file of a process.
func (o *Options) statusNumber(pid int32, file, name string) (n int32, ok bool) {
	var buf [mostOfProc]byte
	b, err := o.procFile(&buf, pid, file)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		if value, is := strings.CutPrefix(string(line), name); is {
			v, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32)
			return int32(v), err == nil
		}
	}
	return 0, false
}
