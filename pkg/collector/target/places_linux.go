package target

import (
	"fmt"
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/collector/share"
	"github.com/p-scope/p-scope/pkg/goruntime/probes"
)

// claim takes a place in the kernel's table and fills in where things are.
func (o *Target) claim() (err error) {
	k := o.kernel
	// A place rests for two seconds after its use. Those that wait for room for their Ps don't use them up.
	if err = k.Admit(o.uid, share.Ps, 1); err != nil {
		return err
	}
	threads := 1
	if stat, err := o.env.Proc.Stat(o.info.PID); err == nil {
		threads = stat.Threads
	}
	if err = k.Admit(o.uid, share.Threads, threads); err != nil {
		return err
	}
	if o.index, err = k.TakeTarget(o.uid, threads); err != nil {
		return err
	}
	o.shared = &k.Targets[o.index]
	l := &o.bin.Layout
	if err := kernel.BeyondReach(o.bin); err != nil {
		return err
	}
	// Where the linker puts the slot unless the program brings thread-local data of its own; a wrong guess is harmless,
	// because an m found this way must name the thread.
	tlsG := int32(-8)
	if off, ok := o.proc.TLSG(); ok {
		tlsG = int32(off)
	}
	// Without cgo no thread ever takes over another's m, and need not be asked each time whether it did.
	inReach := l.M.P+16-l.M.CurG < 8*int32(kern.ScopeReachM_SCHED_WORDS)
	keepsM := uint16(flag(!o.bin.Cgo && l.M.CurG <= l.M.P && l.M.P < l.M.NextP && inReach))
	started, _ := o.bin.Probe(probes.WorldStarted)
	*o.shared = kern.ScopeTarget{
		Tgid: uint32(o.info.PID),
		Layout: kern.ScopeLayout{
			TlsG: tlsG, G_m: uint16(l.G.M), G_atomicstatus: uint16(l.G.AtomicStatus), G_gopc: uint16(l.G.GoPC),
			M_procid: uint16(l.M.ProcID), M_curg: uint16(l.M.CurG), M_p: uint16(l.M.P), M_nextp: uint16(l.M.NextP),
			M_syscalltick: uint16(l.M.SyscallTick),
			P_status:      uint16(l.P.Status), P_link: uint16(l.P.Link), P_schedtick: uint16(l.P.SchedTick),
			P_syscalltick: uint16(l.P.SyscallTick), P_m: uint16(l.P.M), P_gcmode: uint32(l.P.GCMarkWorkerMode),
			FixedM: keepsM, InPidNamespace: uint16(flag(o.env.Proc.NestedPID(o.info.PID))),
			HasStopStartArg: uint16(flag(o.bin.StopBegun())), StopEndSpOffset: started.Ended,
			GcWorkerFrom: o.proc.Addr(o.bin.GCWorkers[0]), GcWorkerTo: o.proc.Addr(o.bin.GCWorkers[1]),
			SchedPidle: o.proc.Addr(o.bin.Vars.Sched) + uint64(l.Sched.PIdle),
		},
		Intervals: 1, NoGcstopFrom: kernel.Never, MarkingUntil: kernel.Never,
		SentLimit: uint64(o.env.IntervalBudget),
	}
	return nil
}

// grow makes records for the Ps of the snapshot that have none yet. The caller holds mu or is alone.
func (o *Target) grow() error {
	if most := kernel.ChunkPs * len(o.shared.Chunk); len(o.ps) == 0 && len(o.snap.Ps) > most {
		return &share.Error{Sentence: fmt.Sprintf("GOMAXPROCS is %d and a process with more than %d Ps can't be "+
			"observed",
			len(o.snap.Ps), most)}
	}
	grows := len(o.ps) > 0 // by as many chunks as there are, one after the other
	if k := o.kernel; k != nil && !grows {
		if err := k.Admit(o.uid, share.Ps, kernel.Chunks(len(o.snap.Ps))); err != nil {
			return err // it takes nothing from its neighbours
		}
	}
	for i := len(o.ps); i < len(o.snap.Ps); i++ {
		if i >= kernel.ChunkPs*len(o.shared.Chunk) {
			return fmt.Errorf("GOMAXPROCS is %d and %d Ps are observed at most", len(o.snap.Ps), i)
		}
		p := &P{id: int32(i), runqDepth: -1}
		slot := 0
		if k := o.kernel; k != nil {
			if i%kernel.ChunkPs == 0 {
				if grows {
					if err := k.Admit(o.uid, share.Ps, 1); err != nil {
						return err
					}
				}
				chunk, err := k.TakeChunk(o.uid)
				if err != nil {
					return err
				}
				o.chunks = append(o.chunks, chunk)
			}
			slot = int(o.chunks[i/kernel.ChunkPs])*kernel.ChunkPs + i%kernel.ChunkPs
			p.rec = &k.Records[slot]
		} else {
			p.rec = &kern.ScopeP_record{}
		}
		now := ledger.Now()
		seen := &o.snap.Ps[i]
		owner, state, thread := o.sight(seen)
		*p.rec = kern.ScopeP_record{
			Word: uint64(ledger.NewWord(now, owner, state, thread)), Birth: now, Addr: seen.Addr,
			Target: o.index, Id: uint32(i), Schedtick: seen.SchedTick,
		}
		p.intervals.Begin(now)
		p.firstSeen = o.env.Clock.Unix(now)
		o.ps = append(o.ps, p)
		if o.kernel == nil {
			continue
		}
		if i%kernel.ChunkPs == 0 {
			o.shared.Chunk[i/kernel.ChunkPs] = o.chunks[i/kernel.ChunkPs]
		}
		kernel.EnterAddress(o.shared, slot, seen.Addr)
	}
	atomic.StoreUint32(&o.shared.N_ps, uint32(len(o.ps)))
	return nil
}
