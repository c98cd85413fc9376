package process

import "github.com/p-scope/p-scope/pkg/goruntime/layout"

// readGs reads the status of the current G of each M and, for Ms without a P, the tick that tells whether the P they
// had is still theirs.
func (p *Process) readGs(s *Snapshot) error {
	l := &p.bin.Layout
	b := &p.batch
	b.Reset()
	window := l.GRead()
	from, to := p.Addr(p.bin.GCWorkers[0]), p.Addr(p.bin.GCWorkers[1])
	for i := range s.Ms {
		m := &s.Ms[i]
		if plausible(m.CurG) {
			b.Add(m.CurG, window)
		}
		if m.leftP() {
			b.Add(m.Addr+uint64(l.M.SyscallTick), 4)
		}
	}
	if err := b.Read(p.pid); err != nil {
		return err
	}
	p.ticks = p.ticks[:0]
	n := 0
	for i := range s.Ms {
		m := &s.Ms[i]
		left := m.leftP()
		if plausible(m.CurG) {
			if g := b.Piece(n); g != nil {
				m.GStatus = u32(g, l.G.AtomicStatus) &^ gScan
				m.GoID = u64(g, l.G.GoID)
				pc := u64(g, l.G.GoPC)
				m.GCWorker = pc >= from && pc < to
			} else {
				s.Errors++
			}
			n++
		}
		var tick uint32
		if left {
			if t := b.Piece(n); t != nil {
				tick = u32(t, 0)
			}
			n++
		}
		p.ticks = append(p.ticks, tick)
	}
	return nil
}

// leftP reports whether the M may be in a system call with its P unlinked from it.
func (m *MSnapshot) leftP() bool { return m.Addr != 0 && m.P == 0 && m.OldP != 0 }

// link joins Ps with the Ms that carry them, and sets the state of each P.
func (p *Process) link(s *Snapshot) {
	clear(p.pIndex)
	for i := range s.Ps {
		ps := &s.Ps[i]
		if !ps.OK {
			continue
		}
		// A P keeps the mode of a worker that it was given and did not run, because the mark phase was over
		// (runtime/mgcpacer.go, releaseNextGCMarkWorker of Go 1.26). The goroutine that the P runs says better.
		var gStatus uint32
		worker, mode := false, ps.GCMarkWorkerMode
		if p.bin.Vars.GCPhase != 0 && s.GCPhase == 0 {
			mode = 0
		}
		if at, ok := p.mIndex[ps.M]; ok && ps.M != 0 && s.Ms[at].Addr != 0 {
			if s.Ms[at].P == ps.Addr {
				ps.MIndex = at
				gStatus, worker = s.Ms[at].GStatus, s.Ms[at].GCWorker
				if s.Ms[at].GoID != 0 && p.bin.GCWorkers[1] != 0 {
					mode = 0
				}
			} else {
				s.Moved++
			}
		}
		ps.State = stateOf(ps.Status, mode, gStatus, worker)
		if ps.Status == layout.StatusSyscall {
			p.pIndex[ps.Addr] = int32(i)
		}
	}
	// Up to Go 1.25 a P in a system call is unlinked from its M, which remembers it in oldp. Several Ms may remember
	// the same P: those whose P was taken away do so until they return. Taking the P away advances p.syscalltick, and
	// the M has a copy of it (runtime/proc.go, reentersyscall and retake).
	if len(p.pIndex) == 0 {
		return
	}
	for i := range s.Ms {
		m := &s.Ms[i]
		if !m.leftP() || m.GStatus != gSyscall {
			continue
		}
		if at, ok := p.pIndex[m.OldP]; ok && s.Ps[at].SyscallTick == p.ticks[i] {
			s.Ps[at].MIndex = int32(i)
		}
	}
}
