package goruntime

import (
	"maps"
	"slices"
	"time"
)

// evidence counts, for each field of a layout that was searched for, how often the memory of a process agreed with it and how often not. A zero in a place that may hold
// one is neither: most of memory is zero.
type evidence map[string]*looks

type looks struct{ right, wrong int }

// contradicted says whether a field was seen wrong at least as often as right.
func (c *looks) contradicted() bool { return c.wrong > 0 && c.wrong >= c.right }

// see notes what a look showed.
func (e evidence) see(field string, agrees bool) {
	if agrees {
		e.add(field, looks{right: 1})
	} else {
		e.add(field, looks{wrong: 1})
	}
}

func (e evidence) add(field string, c looks) {
	if e[field] == nil {
		e[field] = new(looks)
	}
	e[field].right += c.right
	e[field].wrong += c.wrong
}

// against names a field that memory contradicts: one that was seen wrong at least as often as right. The process goes on while it is read, so that single
// contradictions are normal, but a field that is read in the wrong place is wrong nearly always.
func (e evidence) against() (field string) {
	for _, name := range slices.Sorted(maps.Keys(e)) {
		if e[name].contradicted() {
			return name
		}
	}
	return ""
}

// clean reports whether nothing was contradicted.
func (e evidence) clean() bool {
	for _, c := range e {
		if c.wrong > 0 {
			return false
		}
	}
	return true
}

// doubtful reports whether there is a field that against would name, but which was seen so seldom, or so often right as well, that chance may have it.
func (e evidence) doubtful() bool {
	for _, c := range e {
		if c.contradicted() && (c.right > 0 || c.wrong < maxProofs) {
			return true
		}
	}
	return false
}

// maxProofs is how often a process is read to prove a layout, maxDoubts how often if that leaves a doubt, maxProofGs how many goroutines of each reading are looked at.
const (
	maxProofs  = 8
	maxDoubts  = 64
	maxProofGs = 512
)

// prove checks a layout that was searched for, field by field, against the memory of the process. What two functions agreed on is confirmed by it or refused; it cannot
// confirm a field in which there is nothing to see at the moment, such as the next P of an M.
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
		return refuse(ReasonMemory, nil, "the memory of process %d contradicts what the search of its program's code found: %s is elsewhere (wrong in %d of %d looks)",
			p.pid, field, seen[field].wrong, seen[field].wrong+seen[field].right)
	}
	return nil
}

// look gathers evidence from one snapshot, and the one before if there is one.
func (p *Process) look(s, before *Snapshot, e evidence) error {
	if err := p.lookAtSched(s, e); err != nil {
		return err
	}
	if err := p.lookAtPs(s, before, e); err != nil {
		return err
	}
	if err := p.lookAtMs(s, e); err != nil {
		return err
	}
	return p.lookAtGs(s, e)
}

func (p *Process) lookAtSched(s *Snapshot, e evidence) error {
	n := int32(len(s.Ps))
	e.see("gomaxprocs", s.GOMAXPROCS == n)
	e.see("gcphase", s.GCPhase <= 2)
	e.see("sched.npidle", s.Sched.NPIdle >= 0 && s.Sched.NPIdle <= n)
	e.see("sched.nmspinning", s.Sched.NMSpinning >= 0 && int(s.Sched.NMSpinning) <= len(s.Ms)+len(s.Ps))
	e.see("sched.nmidle", s.Sched.NMIdle >= -1 && int(s.Sched.NMIdle) <= len(s.Ms))
	e.see("sched.runqsize", s.Sched.RunqSize >= 0 && s.Sched.RunqSize < 1<<26)
	e.see("sched.stopwait", s.Sched.StopWait >= 0 && s.Sched.StopWait <= n)
	// The list of idle Ps: as many as are counted, each one of allp and idle, none twice. One that has changed since says nothing.
	b, sched := &p.batch, p.Addr(p.bin.Vars.Sched)
	b.reset()
	b.add(sched+uint64(p.bin.Layout.Sched.PIdle), 8)
	b.add(sched+uint64(p.bin.Layout.Sched.NPIdle), 4)
	if err := b.read(p.pid); err != nil {
		return err
	}
	if first, count := b.piece(0), b.piece(1); first == nil || count == nil || u64(first, 0) != s.Sched.PIdle || int32(u32(count, 0)) != s.Sched.NPIdle {
		return nil
	}
	byAddr := make(map[uint64]*PSnapshot, len(s.Ps))
	idle := int32(0)
	for i := range s.Ps {
		byAddr[s.Ps[i].Addr] = &s.Ps[i]
		if s.Ps[i].Status == pIdle {
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
		e.see("p.status", ps.Status == pIdle)
		at = ps.Link
	}
	e.see("sched.pidle", s.Sched.PIdle == 0 || byAddr[s.Sched.PIdle] != nil)
	e.see("p.link", links)
	if links {
		e.see("sched.npidle", met == s.Sched.NPIdle)
		// A P that was idle is on the list, but for the instants of taking it off and putting it there.
		e.see("sched.pidle", met == idle || s.Sched.GCWaiting)
	}
	return nil
}

// lookAtPs reads what must agree once more, each P's in one go and with what may change before and after: where it did not, no other thread was in between.
func (p *Process) lookAtPs(s, before *Snapshot, e evidence) error {
	l := &p.bin.Layout
	isM := make(map[uint64]bool, len(s.Ms))
	for i := range s.Ms {
		isM[s.Ms[i].Addr] = true
	}
	b := &p.batch
	b.reset()
	const pieces = 6
	for i := range s.Ps {
		at := s.Ps[i].Addr
		carriers := at + uint64(l.P.M) // there is something to read in any case
		if m := s.Ps[i].M; isM[m] {
			carriers = m + uint64(l.M.P)
		}
		b.add(at+uint64(l.P.M), 8)
		b.add(at+uint64(l.P.Status), 4)
		b.add(at+uint64(l.P.GCMarkWorkerMode), 8)
		b.add(carriers, 8)
		b.add(at+uint64(l.P.Status), 4)
		b.add(at+uint64(l.P.M), 8)
	}
	if err := b.read(p.pid); err != nil {
		return err
	}
	for i := range s.Ps {
		ps := &s.Ps[i]
		e.see("p.id", ps.OK)
		if !ps.OK {
			continue
		}
		e.see("p.runqhead", ps.RunqDepth >= 0 && ps.RunqDepth <= 257)
		e.see("p.runqtail", ps.RunqDepth >= 0 && ps.RunqDepth <= 257)
		var piece [pieces][]byte
		mapped := true
		for k := range piece {
			piece[k] = b.piece(pieces*i + k)
			mapped = mapped && piece[k] != nil
		}
		if mapped && u64(piece[0], 0) == u64(piece[5], 0) && u32(piece[1], 0) == u32(piece[4], 0) {
			m, status := u64(piece[0], 0), u32(piece[1], 0)
			// Since Go 1.26 a P that is idle may have one, too: that of a worker it was given and did not run (runtime/mgcpacer.go, releaseNextGCMarkWorker).
			if mode := u64(piece[2], 0); mode != 0 {
				e.see("p.gcMarkWorkerMode", mode <= 3)
			}
			// The P that stops the world is in gcstop, and carried.
			if carried := status == pRunning; carried || m != 0 && status == pIdle {
				e.see("p.status", carried == (m != 0))
				e.see("p.m", carried && isM[m])
				if m == ps.M && isM[m] {
					e.see("m.p", carried && u64(piece[3], 0) == ps.Addr)
				}
			}
		}
		if i < len(before.Ps) && before.Ps[i].OK {
			// Some thousands at most in the milliseconds between.
			const most = 1 << 20
			if d := ps.SchedTick - before.Ps[i].SchedTick; d != 0 {
				e.see("p.schedtick", d < most)
			}
			if d := ps.SyscallTick - before.Ps[i].SyscallTick; d != 0 {
				e.see("p.syscalltick", d < most)
			}
		}
	}
	return nil
}

func (p *Process) lookAtMs(s *Snapshot, e evidence) error {
	l := &p.bin.Layout.M
	isP := make(map[uint64]int, len(s.Ps))
	for i := range s.Ps {
		isP[s.Ps[i].Addr] = i
	}
	e.see("m.alllink", s.Errors == 0)
	e.see("allm", len(p.known) > 0)
	// What Snapshot takes for flags must be ones, and Ms in a system call have a copy of their P's tick that is not ahead of it, if it is read before it and they are in
	// a system call from that P still.
	b := &p.batch
	b.reset()
	type call struct{ m, at int }
	var calls []call
	for i := range s.Ms {
		b.add(s.Ms[i].Addr+uint64(l.Spinning), 1)
		b.add(s.Ms[i].Addr+uint64(l.Blocked), 1)
	}
	for i := range s.Ms {
		m := &s.Ms[i]
		if at, ok := isP[m.OldP]; ok && m.InSyscall() && m.P == 0 && s.Ps[at].OK {
			calls = append(calls, call{i, b.add(m.Addr+uint64(l.OldP), 8)})
			b.add(m.Addr+uint64(l.SyscallTick), 4)
			b.add(m.Addr+uint64(l.OldP), 8)
			b.add(m.OldP+uint64(p.bin.Layout.P.SyscallTick), 4)
		}
	}
	waiting := b.add(p.Addr(p.bin.Vars.Sched)+uint64(p.bin.Layout.Sched.GCWaiting), 1)
	if err := b.read(p.pid); err != nil {
		return err
	}
	flag := func(field string, b []byte) {
		if b != nil && b[0] != 0 {
			e.see(field, b[0] == 1)
		}
	}
	flag("sched.gcwaiting", b.piece(waiting))
	ids, tids := make(map[int64]bool), make(map[int32]bool)
	for i := range s.Ms {
		m := &s.Ms[i]
		spinning, blocked := b.piece(2*i), b.piece(2*i+1)
		flag("m.spinning", spinning)
		flag("m.blocked", blocked)
		e.see("m.id", m.ID >= 0 && m.ID < 1<<32 && !ids[m.ID])
		ids[m.ID] = true
		if m.ProcID != 0 {
			e.see("m.procid", m.TID != 0 && p.hasThread(m.TID) && !tids[m.TID])
			tids[m.TID] = true
		}
		for field, at := range map[string]uint64{"m.p": m.P, "m.nextp": m.NextP, "m.oldp": m.OldP} {
			if at != 0 {
				_, ok := isP[at]
				e.see(field, ok)
			}
		}
		if _, ok := isP[m.OldP]; ok {
			e.see("m.curg", m.CurG != 0) // which is in a system call
		}
	}
	for _, c := range calls {
		first, tick, second, current := b.piece(c.at), b.piece(c.at+1), b.piece(c.at+2), b.piece(c.at+3)
		if oldp := s.Ms[c.m].OldP; first == nil || tick == nil || second == nil || current == nil || u64(first, 0) != oldp || u64(second, 0) != oldp {
			continue
		}
		e.see("m.syscalltick", u32(current, 0)-u32(tick, 0) < 1<<31)
	}
	return nil
}

// lookAtGs reads the goroutines that Ms run and those that are next on a P.
func (p *Process) lookAtGs(s *Snapshot, e evidence) error {
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
	b.reset()
	window := l.gWindow()
	const pieces = 4
	for _, g := range gs {
		b.add(g.m+uint64(l.M.CurG), 8)
		b.add(g.addr, window)
		b.add(g.addr+uint64(l.G.M), 8)
		b.add(g.m+uint64(l.M.CurG), 8)
	}
	var nexts []int
	for i := range s.Ps {
		nexts = append(nexts, b.add(s.Ps[i].Addr+uint64(l.P.RunNext), 8))
	}
	if err := b.read(p.pid); err != nil {
		return err
	}
	from, to := p.Addr(p.bin.text[0]), p.Addr(p.bin.text[1])
	ids := make(map[uint64]bool)
	for i, g := range gs {
		first, got, m, second := b.piece(pieces*i), b.piece(pieces*i+1), b.piece(pieces*i+2), b.piece(pieces*i+3)
		if first == nil || second == nil || u64(first, 0) != g.addr || u64(second, 0) != g.addr {
			continue // which runs another by now
		}
		e.see("m.curg", got != nil && m != nil)
		if got == nil || m == nil {
			continue
		}
		e.see("g.m", u64(m, 0) == g.m)
		e.see("m.curg", u64(m, 0) == g.m)
		// From _Grunnable to _Gpreempted: what a goroutine that an M runs, or is about to, or has just run, can be (runtime/runtime2.go).
		status := u32(got, l.G.AtomicStatus) &^ gScan
		e.see("g.atomicstatus", status >= 1 && status <= 9 && status != 5 && status != 7)
		id := u64(got, l.G.GoID)
		e.see("g.goid", id > 0 && id < 1<<48 && !ids[id])
		ids[id] = true
		pc := u64(got, l.G.GoPC)
		e.see("g.gopc", pc >= from && pc < to)
	}
	var next []uint64
	for i := range nexts {
		if piece := b.piece(nexts[i]); piece != nil && u64(piece, 0) != 0 && len(next) < maxProofGs {
			next = append(next, u64(piece, 0))
		}
	}
	b.reset()
	for _, g := range next {
		if !plausible(g) {
			e.see("p.runnext", false)
			continue
		}
		b.add(g, window)
	}
	if err := b.read(p.pid); err != nil {
		return err
	}
	for i := range b.at {
		got := b.piece(i)
		e.see("p.runnext", got != nil && u64(got, l.G.GoID) > 0 && u64(got, l.G.GoID) < 1<<48 && u64(got, l.G.GoPC) >= from && u64(got, l.G.GoPC) < to)
	}
	return nil
}
