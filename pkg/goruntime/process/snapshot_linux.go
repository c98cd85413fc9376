package process

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime/memory"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// reader holds what Snapshot keeps from one reading to the next.
type reader struct {
	batch  memory.Batch
	poll   [1]unix.PollFd
	polled time.Time // when it was asked last whether the process lives

	spans  []span            // where the runtime's variables are
	places [globalVars]place // of each of them
	// allp is as last read, so that the array and the Ps can be read together with the header.
	allp     sliceHeader
	pAddrs   []uint64
	complete bool // the array has been read, and all it names were Ps
	handing  bool // the last reading found Ps that are neither in use nor on the idle list

	mAddrs []uint64         // the Ms to read; after a full walk, the list of all Ms in its order
	mIndex map[uint64]int32 // address of an M to its place in Snapshot.Ms
	known  []uint64         // all Ms of the last full walk
	chain  []MSnapshot
	links  []uint64         // alllink of each of Snapshot.Ms
	ticks  []uint32         // m.syscalltick of those of Snapshot.Ms that have left a P behind
	pIndex map[uint64]int32 // address of a P in a system call to its place in Snapshot.Ps
}

type sliceHeader struct{ ptr, len, cap uint64 }

// Snapshot reads the state of all Ps and of the threads that carry them; withMs asks for all threads. It fills s, whose
// slices it reuses.
//
// It takes three system calls of process_vm_readv, one if all Ps are idle, plus a poll now and then, whatever the
// number of Ps up to some hundreds. The process is not stopped: the values are from slightly different instants, and
// what contradicts itself is counted in s. Errors are [*refusal.Error]: [refusal.ErrExited], [refusal.ErrExeced],
// [refusal.ErrNoPrivilege], [refusal.ErrNotStarted], [refusal.ErrTorn] (try again), or one of [refusal.Memory].
func (p *Process) Snapshot(s *Snapshot, withMs bool) error {
	begin := time.Now()
	*s = Snapshot{At: begin.UnixNano(), Ps: s.Ps[:0], Ms: s.Ms[:0]}
	p.batch.Faults = 0
	if err := p.snapshot(s, withMs); err != nil {
		return p.diagnose(err)
	}
	// The pid may have passed to another process meanwhile. If the process that was opened still lives, it has not. Its
	// initial stack lies at a random address. Where that was read, too, it is enough to ask now and then.
	if p.canary == 0 || begin.Sub(p.polled) >= pollEvery {
		if !p.alive() {
			return refusal.ErrExited
		}
		p.polled = begin
	}
	s.Took = time.Since(begin)
	return nil
}

func (p *Process) snapshot(s *Snapshot, withMs bool) error {
	allm, err := p.readPs(s, withMs)
	if err != nil {
		return err
	}
	if err := p.readMs(s, allm, withMs); err != nil {
		return err
	}
	if err := p.checkPs(s); err != nil {
		return err
	}
	if err := p.readGs(s); err != nil {
		return err
	}
	p.link(s)
	return nil
}

// pollEvery is how often a process whose memory reads well is asked whether it lives. The kernel gives out pids in
// turn. So a pid comes again only after tens of thousands of processes have been started.
const pollEvery = time.Second

// AllIdle reports whether there are ps Ps and all of them are on the idle list, by the runtime's own count. Nothing
// runs then, and no P has a queue. It also gives the length of the global run queue. It takes one system call and is
// much cheaper than Snapshot. False says nothing more, nor what is wrong with the process: take a snapshot.
func (p *Process) AllIdle(ps int) (globalRunq int32, idle bool) {
	b := &p.batch
	b.Faults = 0
	p.locate()
	b.Reset()
	at := [2]place{p.places[varGOMAXPROCS], p.places[varSched]}
	for i, v := range at {
		if i > 0 && v.span == at[0].span {
			at[i].span = 0
			continue
		}
		at[i].span = b.Add(p.spans[v.span].addr, p.spans[v.span].size)
	}
	if b.Read(p.pid) != nil || b.Faults > 0 {
		return 0, false
	}
	l := &p.bin.Layout.Sched
	sched := b.Piece(at[1].span)[at[1].off:]
	procs := int(u32(b.Piece(at[0].span), at[0].off))
	idle = procs == ps && int(u32(sched, l.NPIdle)) == ps && sched[l.GCWaiting] == 0
	return int32(u32(sched, l.RunqSize)), idle
}

// diagnose finds the cause of a failed reading. Memory looks wrong when the process has exited or executed another
// program.
func (p *Process) diagnose(err error) error {
	if errors.Is(err, refusal.ErrNoAnswer) || errors.Is(err, refusal.ErrTorn) {
		return err
	}
	if alive := p.Alive(); alive != nil {
		return alive
	}
	if errors.Is(err, unix.ESRCH) {
		return refusal.ErrExited
	}
	if errors.Is(err, memory.ErrTooManyFaults) {
		return refusal.New(refusal.Memory, err, "the memory of process %d does not look like a Go runtime", p.pid)
	}
	return p.explain(err)
}
