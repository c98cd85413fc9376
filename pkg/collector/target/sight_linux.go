package target

import (
	"errors"
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// carrier is the thread that carries a P according to the snapshot; 0 if none does, or none is known.
func (o *Target) carrier(p *process.PSnapshot) uint32 {
	if p.MIndex < 0 || int(p.MIndex) >= len(o.snap.Ms) {
		return 0
	}
	return uint32(max(o.snap.Ms[p.MIndex].TID, 0))
}

// sight is what a snapshot says of a P: the thread that carries it, its state, and that thread's state.
func (o *Target) sight(p *process.PSnapshot) (owner uint32, s pstate.State, t pstate.ThreadState) {
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
func (o *Target) enterThreads() {
	now := ledger.Now()
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
			Word: uint64(ledger.NewWord(now, 0, 0, state)), M: m.Addr, SwitchIn: now, Tid: uint32(m.TID),
			Target: o.index,
			Tgid:   uint32(o.info.PID),
		}
		for j := range min(len(comm), len(th.Comm)-1) {
			th.Comm[j] = int8(comm[j])
		}
		var p *P
		for _, q := range o.ps {
			if ledger.Word(atomic.LoadUint64(&q.rec.Word)).Owner() == uint32(m.TID) {
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
		table := &o.kernel.Threads
		if old := table.Find(uint32(m.TID)); old != nil && (old.Target != o.index || old.Tgid != uint32(o.info.PID)) {
			table.Remove(uint32(m.TID))
		}
		// It is counted before its entry says so: who finds the entry saying so takes it back.
		if th.D_slot != 0 {
			ledger.EnterD(p.rec, now)
		}
		err = table.Add(uint32(m.TID), &th)
		if err != nil && th.D_slot != 0 {
			ledger.RetractD(p.rec)
		}
		if errors.Is(err, kernel.ErrThreadKnown) {
			continue
		}
		if err != nil {
			o.lost[loss.ThreadsFull]++
		}
	}
}

// lastP is the P that an M without one had when it entered the call it is in; nil if it is in none.
func (o *Target) lastP(m *process.MSnapshot) *P {
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

func (o *Target) slot(p int32) int {
	return int(o.chunks[int(p)/kernel.ChunkPs])*kernel.ChunkPs + int(p)%kernel.ChunkPs
}
