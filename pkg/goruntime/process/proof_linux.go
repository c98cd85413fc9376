package process

import (
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/layout"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// prove checks a layout that was found by search, field by field, against the memory of the process. Memory cannot
// confirm a field that is zero at the moment, such as the next P of an M.
func (p *Process) prove() error {
	seen := make(evidence)
	var before, now Snapshot
	for attempt := 0; attempt < maxProofs || attempt < maxDoubts && seen.doubtful(); attempt++ {
		if attempt > 0 {
			time.Sleep(2 * time.Millisecond)
		}
		if err := p.Snapshot(&now, true); err != nil {
			return err
		}
		once := make(evidence)
		if err := p.look(&now, &before, once); err != nil {
			return p.diagnose(err)
		}
		for field, c := range once {
			seen.add(field, *c)
		}
		if attempt > 0 && once.clean() && seen.against() == "" {
			break
		}
		before, now = now, before
	}
	if field := seen.against(); field != "" {
		return refusal.New(refusal.Memory, nil, "the memory of process %d contradicts what the search of its "+
			"program's code "+
			"found: %s is elsewhere (wrong in %d of %d looks)",
			p.pid, field, seen[field].wrong, seen[field].wrong+seen[field].right)
	}
	return nil
}

// look takes evidence from one snapshot, and from the one before if there is one.
func (p *Process) look(s, before *Snapshot, e evidence) error {
	if err := p.proveSched(s, e); err != nil {
		return err
	}
	if err := p.provePs(s, before, e); err != nil {
		return err
	}
	if err := p.proveMs(s, e); err != nil {
		return err
	}
	return p.proveGs(s, e)
}

func (p *Process) proveSched(s *Snapshot, e evidence) error {
	n := int32(len(s.Ps))
	e.note("gomaxprocs", s.GOMAXPROCS == n)
	e.note("gcphase", s.GCPhase <= 2)
	e.note("sched.npidle", s.Sched.NPIdle >= 0 && s.Sched.NPIdle <= n)
	e.note("sched.nmspinning", s.Sched.NMSpinning >= 0 && int(s.Sched.NMSpinning) <= len(s.Ms)+len(s.Ps))
	e.note("sched.nmidle", s.Sched.NMIdle >= -1 && int(s.Sched.NMIdle) <= len(s.Ms))
	e.note("sched.runqsize", s.Sched.RunqSize >= 0 && s.Sched.RunqSize < 1<<26)
	e.note("sched.stopwait", s.Sched.StopWait >= 0 && s.Sched.StopWait <= n)
	// The list of idle Ps has as many as are counted, each one of allp and idle, and none twice. A list that has
	// changed since proves nothing.
	b, sched := &p.batch, p.Addr(p.bin.Vars.Sched)
	b.Reset()
	b.Add(sched+uint64(p.bin.Layout.Sched.PIdle), 8)
	b.Add(sched+uint64(p.bin.Layout.Sched.NPIdle), 4)
	if err := b.Read(p.pid); err != nil {
		return err
	}
	first, count := b.Piece(0), b.Piece(1)
	if first == nil || count == nil || u64(first, 0) != s.Sched.PIdle || int32(u32(count, 0)) != s.Sched.NPIdle {
		return nil
	}
	byAddr := make(map[uint64]*PSnapshot, len(s.Ps))
	idle := int32(0)
	for i := range s.Ps {
		byAddr[s.Ps[i].Addr] = &s.Ps[i]
		if s.Ps[i].Status == layout.StatusIdle {
			idle++
		}
	}
	met, links := int32(0), true
	for at := s.Sched.PIdle; at != 0; met++ {
		ps := byAddr[at]
		if ps == nil || met >= n {
			links = false
			break
		}
		e.note("p.status", ps.Status == layout.StatusIdle)
		at = ps.Link
	}
	e.note("sched.pidle", s.Sched.PIdle == 0 || byAddr[s.Sched.PIdle] != nil)
	e.note("p.link", links)
	if links {
		e.note("sched.npidle", met == s.Sched.NPIdle)
		// A P that was idle is on the list, but for the instants of taking it off and putting it there.
		e.note("sched.pidle", met == idle || s.Sched.GCWaiting)
	}
	return nil
}

// provePs reads once more what must agree, each P's fields in one call. It reads what may change first and last. Where
// both are the same, no other thread was in between.
func (p *Process) provePs(s, before *Snapshot, e evidence) error {
	l := &p.bin.Layout
	isM := make(map[uint64]bool, len(s.Ms))
	for i := range s.Ms {
		isM[s.Ms[i].Addr] = true
	}
	b := &p.batch
	b.Reset()
	const pieces = 6
	for i := range s.Ps {
		at := s.Ps[i].Addr
		carriers := at + uint64(l.P.M) // there is something to read in any case
		if m := s.Ps[i].M; isM[m] {
			carriers = m + uint64(l.M.P)
		}
		b.Add(at+uint64(l.P.M), 8)
		b.Add(at+uint64(l.P.Status), 4)
		b.Add(at+uint64(l.P.GCMarkWorkerMode), 8)
		b.Add(carriers, 8)
		b.Add(at+uint64(l.P.Status), 4)
		b.Add(at+uint64(l.P.M), 8)
	}
	if err := b.Read(p.pid); err != nil {
		return err
	}
	for i := range s.Ps {
		ps := &s.Ps[i]
		e.note("p.id", ps.OK)
		if !ps.OK {
			continue
		}
		e.note("p.runqhead", ps.RunqDepth >= 0 && ps.RunqDepth <= 257)
		e.note("p.runqtail", ps.RunqDepth >= 0 && ps.RunqDepth <= 257)
		var piece [pieces][]byte
		mapped := true
		for k := range piece {
			piece[k] = b.Piece(pieces*i + k)
			mapped = mapped && piece[k] != nil
		}
		if mapped && u64(piece[0], 0) == u64(piece[5], 0) && u32(piece[1], 0) == u32(piece[4], 0) {
			m, status := u64(piece[0], 0), u32(piece[1], 0)
			// Since Go 1.26 a P that is idle may have one, too: that of a worker it was given and did not run
			// (runtime/mgcpacer.go, releaseNextGCMarkWorker).
			if mode := u64(piece[2], 0); mode != 0 {
				e.note("p.gcMarkWorkerMode", mode <= 3)
			}
			// The P that stops the world is in gcstop, and carried.
			if carried := status == layout.StatusRunning; carried || m != 0 && status == layout.StatusIdle {
				e.note("p.status", carried == (m != 0))
				e.note("p.m", carried && isM[m])
				if m == ps.M && isM[m] {
					e.note("m.p", carried && u64(piece[3], 0) == ps.Addr)
				}
			}
		}
		if i < len(before.Ps) && before.Ps[i].OK {
			// Some thousands at most in the milliseconds between.
			const most = 1 << 20
			if d := ps.SchedTick - before.Ps[i].SchedTick; d != 0 {
				e.note("p.schedtick", d < most)
			}
			if d := ps.SyscallTick - before.Ps[i].SyscallTick; d != 0 {
				e.note("p.syscalltick", d < most)
			}
		}
	}
	return nil
}

func (p *Process) proveMs(s *Snapshot, e evidence) error {
	l := &p.bin.Layout.M
	isP := make(map[uint64]int, len(s.Ps))
	for i := range s.Ps {
		isP[s.Ps[i].Addr] = i
	}
	e.note("m.alllink", s.Errors == 0)
	e.note("allm", len(p.known) > 0)
	// What Snapshot reads as a flag must be 0 or 1. An M in a system call has a copy of its P's tick. The copy is not
	// ahead of the tick, if it is read before the tick and the M is still in a system call from that P.
	b := &p.batch
	b.Reset()
	type call struct{ m, at int }
	var calls []call
	for i := range s.Ms {
		b.Add(s.Ms[i].Addr+uint64(l.Spinning), 1)
		b.Add(s.Ms[i].Addr+uint64(l.Blocked), 1)
	}
	for i := range s.Ms {
		m := &s.Ms[i]
		if at, ok := isP[m.OldP]; ok && m.InSyscall() && m.P == 0 && s.Ps[at].OK {
			calls = append(calls, call{i, b.Add(m.Addr+uint64(l.OldP), 8)})
			b.Add(m.Addr+uint64(l.SyscallTick), 4)
			b.Add(m.Addr+uint64(l.OldP), 8)
			b.Add(m.OldP+uint64(p.bin.Layout.P.SyscallTick), 4)
		}
	}
	waiting := b.Add(p.Addr(p.bin.Vars.Sched)+uint64(p.bin.Layout.Sched.GCWaiting), 1)
	if err := b.Read(p.pid); err != nil {
		return err
	}
	flag := func(field string, b []byte) {
		if b != nil && b[0] != 0 {
			e.note(field, b[0] == 1)
		}
	}
	flag("sched.gcwaiting", b.Piece(waiting))
	ids, tids := make(map[int64]bool), make(map[int32]bool)
	for i := range s.Ms {
		m := &s.Ms[i]
		spinning, blocked := b.Piece(2*i), b.Piece(2*i+1)
		flag("m.spinning", spinning)
		flag("m.blocked", blocked)
		e.note("m.id", m.ID >= 0 && m.ID < 1<<32 && !ids[m.ID])
		ids[m.ID] = true
		if m.ProcID != 0 {
			e.note("m.procid", m.TID != 0 && p.hasThread(m.TID) && !tids[m.TID])
			tids[m.TID] = true
		}
		for field, at := range map[string]uint64{"m.p": m.P, "m.nextp": m.NextP, "m.oldp": m.OldP} {
			if at != 0 {
				_, ok := isP[at]
				e.note(field, ok)
			}
		}
		if _, ok := isP[m.OldP]; ok {
			e.note("m.curg", m.CurG != 0) // which is in a system call
		}
	}
	for _, c := range calls {
		first, tick, second, current := b.Piece(c.at), b.Piece(c.at+1), b.Piece(c.at+2), b.Piece(c.at+3)
		if first == nil || tick == nil || second == nil || current == nil {
			continue
		}
		if oldp := s.Ms[c.m].OldP; u64(first, 0) != oldp || u64(second, 0) != oldp {
			continue
		}
		e.note("m.syscalltick", u32(current, 0)-u32(tick, 0) < 1<<31)
	}
	return nil
}

// proveGs reads the goroutines that Ms run and those that are next on a P.
func (p *Process) proveGs(s *Snapshot, e evidence) error {
	l := &p.bin.Layout
	type seenG struct {
		addr, m uint64
	}
	var gs []seenG
	for i := range s.Ms {
		if g := s.Ms[i].CurG; g != 0 && len(gs) < maxProofGs {
			gs = append(gs, seenG{g, s.Ms[i].Addr})
		}
	}
	b := &p.batch
	b.Reset()
	window := l.GRead()
	const pieces = 4
	for _, g := range gs {
		b.Add(g.m+uint64(l.M.CurG), 8)
		b.Add(g.addr, window)
		b.Add(g.addr+uint64(l.G.M), 8)
		b.Add(g.m+uint64(l.M.CurG), 8)
	}
	var nexts []int
	for i := range s.Ps {
		nexts = append(nexts, b.Add(s.Ps[i].Addr+uint64(l.P.RunNext), 8))
	}
	if err := b.Read(p.pid); err != nil {
		return err
	}
	from, to := p.Addr(p.bin.Text[0]), p.Addr(p.bin.Text[1])
	ids := make(map[uint64]bool)
	for i, g := range gs {
		first, got, m, second := b.Piece(pieces*i), b.Piece(pieces*i+1), b.Piece(pieces*i+2), b.Piece(pieces*i+3)
		if first == nil || second == nil || u64(first, 0) != g.addr || u64(second, 0) != g.addr {
			continue // the M runs another goroutine by now
		}
		e.note("m.curg", got != nil && m != nil)
		if got == nil || m == nil {
			continue
		}
		e.note("g.m", u64(m, 0) == g.m)
		e.note("m.curg", u64(m, 0) == g.m)
		// A goroutine that an M runs, is about to run or has just run is in a status from _Grunnable to _Gpreempted
		// (runtime/runtime2.go).
		status := u32(got, l.G.AtomicStatus) &^ gScan
		e.note("g.atomicstatus", status >= 1 && status <= 9 && status != 5 && status != 7)
		id := u64(got, l.G.GoID)
		e.note("g.goid", id > 0 && id < 1<<48 && !ids[id])
		ids[id] = true
		pc := u64(got, l.G.GoPC)
		e.note("g.gopc", pc >= from && pc < to)
	}
	var next []uint64
	for i := range nexts {
		if piece := b.Piece(nexts[i]); piece != nil && u64(piece, 0) != 0 && len(next) < maxProofGs {
			next = append(next, u64(piece, 0))
		}
	}
	b.Reset()
	for _, g := range next {
		if !plausible(g) {
			e.note("p.runnext", false)
			continue
		}
		b.Add(g, window)
	}
	if err := b.Read(p.pid); err != nil {
		return err
	}
	for i := range b.Pieces() {
		got := b.Piece(i)
		if got == nil {
			e.note("p.runnext", false)
			continue
		}
		id, pc := u64(got, l.G.GoID), u64(got, l.G.GoPC)
		e.note("p.runnext", id > 0 && id < 1<<48 && pc >= from && pc < to)
	}
	return nil
}
