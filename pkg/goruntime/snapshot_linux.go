package goruntime

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// reader holds what Snapshot keeps from one reading to the next.
type reader struct {
	batch  batch
	poll   [1]unix.PollFd
	polled time.Time // when it was asked last whether the process lives

	spans    []span            // where the runtime's variables are
	places   [globalVars]place // of each of them
	allp     sliceHeader       // as last read, so that the array, and what it names, can be fetched together with the header
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

// Snapshot reads the state of all Ps and of the threads that carry them; withMs asks for all threads. It fills s, whose slices it reuses.
//
// It takes three system calls of process_vm_readv, one if all Ps are idle, plus a poll now and then, whatever the number of Ps up to some hundreds. The
// process is not stopped: the values are from slightly different instants, and what contradicts itself is counted in s. Errors are [*RefusedError]: [ErrExited],
// [ErrExeced], [ErrNoPrivilege], [ErrNotStarted], [ErrTorn] (try again), or one of [ReasonMemory].
func (p *Process) Snapshot(s *Snapshot, withMs bool) error {
	begin := time.Now()
	*s = Snapshot{At: begin.UnixNano(), Ps: s.Ps[:0], Ms: s.Ms[:0]}
	p.batch.faults = 0
	if err := p.snapshot(s, withMs); err != nil {
		return p.diagnose(err)
	}
	// The pid may have passed to another process meanwhile; if the one opened still lives, it has not. Where the stack of the one opened was read, too,
	// which lies at a random address, asking now and then is enough.
	if p.canary == 0 || begin.Sub(p.polled) >= pollEvery {
		if !p.alive() {
			return ErrExited
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

// pollEvery is how often a process whose memory reads well is asked whether it lives. Numbers of processes are given out in turn: for one to come round
// again, tens of thousands of processes must be started.
const pollEvery = time.Second

// AllIdle reports whether there are ps Ps and all of them are on the idle list, by the runtime's own count, so that nothing runs and no P has a queue;
// and the length of the global run queue. It takes one system call and a tenth of the time of Snapshot. False says nothing, nor what is wrong with the
// process: take a snapshot.
func (p *Process) AllIdle(ps int) (globalRunq int32, idle bool) {
	b := &p.batch
	b.faults = 0
	p.locate()
	b.reset()
	at := [2]place{p.places[varGOMAXPROCS], p.places[varSched]}
	for i, v := range at {
		if i > 0 && v.span == at[0].span {
			at[i].span = 0
			continue
		}
		at[i].span = b.add(p.spans[v.span].addr, p.spans[v.span].size)
	}
	if b.read(p.pid) != nil || b.faults > 0 {
		return 0, false
	}
	l := &p.bin.Layout.Sched
	sched := b.piece(at[1].span)[at[1].off:]
	procs := int(u32(b.piece(at[0].span), at[0].off))
	idle = procs == ps && int(u32(sched, l.NPIdle)) == ps && sched[l.GCWaiting] == 0
	return int32(u32(sched, l.RunqSize)), idle
}

// diagnose finds out what is behind a failed reading: memory that looks wrong is normal for a process that has exited or executed another program.
func (p *Process) diagnose(err error) error {
	if errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrTorn) {
		return err
	}
	if alive := p.Alive(); alive != nil {
		return alive
	}
	if errors.Is(err, unix.ESRCH) {
		return ErrExited
	}
	if errors.Is(err, errTooManyFaults) {
		return refuse(ReasonMemory, err, "the memory of process %d does not look like a Go runtime", p.pid)
	}
	return p.explain(err)
}

// The variables of the runtime that are read each time.
const (
	varAllP = iota
	varGOMAXPROCS
	varAllM
	varGCPhase
	varSched
	globalVars
)

// span is a stretch of memory that is read in one piece.
type span struct {
	addr   uint64
	size   int
	onlyMs bool // nothing but allm is in it
}

// place is where a variable lies: how far into which span. Of one that is not known the span is -1.
type place struct {
	span int
	off  int32
}

// closeBy is up to how many bytes apart variables are read in one piece: the kernel looks up the page for each piece anew, which takes longer than
// to copy what is between.
const closeBy = 512

// locate works out once what to read to have all variables.
func (p *Process) locate() {
	if p.spans != nil {
		return
	}
	v := &p.bin.Vars
	vars := [globalVars]struct {
		addr uint64
		size int
	}{
		varAllP: {p.Addr(v.AllP), 24}, varGOMAXPROCS: {p.Addr(v.GOMAXPROCS), 4}, varAllM: {p.Addr(v.AllM), 8}, varGCPhase: {p.Addr(v.GCPhase), 4},
		varSched: {p.Addr(v.Sched), p.bin.Layout.schedWindow()},
	}
	order := [globalVars]int{varAllP, varGOMAXPROCS, varAllM, varGCPhase, varSched}
	slices.SortFunc(order[:], func(a, b int) int { return cmp.Compare(vars[a].addr, vars[b].addr) })
	for _, i := range order {
		at := vars[i]
		if at.addr == 0 {
			p.places[i].span = -1
			continue
		}
		if n := len(p.spans); n > 0 {
			last := &p.spans[n-1]
			if gap := at.addr - last.addr; gap <= uint64(last.size+closeBy) {
				p.places[i] = place{n - 1, int32(gap)}
				last.size = max(last.size, int(gap)+at.size)
				last.onlyMs = false
				continue
			}
		}
		p.places[i] = place{len(p.spans), 0}
		p.spans = append(p.spans, span{at.addr, at.size, i == varAllM})
	}
}

// global is a variable's value in what was read of the spans, which are the first pieces of the batch; nil if it could not be read.
func (p *Process) global(i int) []byte {
	at := p.places[i]
	if at.span < 0 {
		return nil
	}
	piece := p.batch.piece(at.span)
	if piece == nil {
		return nil
	}
	return piece[at.off:]
}

// readPs reads runtime.sched, allp, gomaxprocs and gcphase, with withMs also allm, and all Ps. Each piece costs the look-up of its page, so that what is not
// needed is left out. The array behind allp moves only when GOMAXPROCS grows, and a P that is in it stays there (runtime/proc.go, procresize): it is read
// when its header is another, or as long as it has holes, and the Ps are read where they were the last time and again only if that was wrong.
func (p *Process) readPs(s *Snapshot, withMs bool) (allm uint64, err error) {
	l := &p.bin.Layout.Sched
	b := &p.batch
	p.locate()
	window := p.bin.Layout.pWindow()
	for range 4 {
		b.reset()
		for _, at := range p.spans {
			if at.onlyMs && !withMs {
				at.size = 0
			}
			b.add(at.addr, at.size)
		}
		arrayPiece := -1
		if p.allp.len > 0 && !p.complete {
			arrayPiece = b.add(p.allp.ptr, int(p.allp.len)*8)
		}
		canaryPiece := -1
		if p.canary != 0 {
			canaryPiece = b.add(p.canary, 8)
		}
		first := b.pieces()
		for _, addr := range p.pAddrs {
			if plausible(addr) {
				b.add(addr, window)
			}
		}
		if err := b.read(p.pid); err != nil {
			return 0, err
		}
		if canaryPiece >= 0 && b.piece(canaryPiece) == nil {
			return 0, ErrExeced // the initial stack is gone; its address is random in every new image
		}
		header, procs, allmBytes, sched := p.global(varAllP), p.global(varGOMAXPROCS), p.global(varAllM), p.global(varSched)
		if header == nil || procs == nil || allmBytes == nil || sched == nil {
			return 0, refuse(ReasonMemory, nil, "the runtime's variables of process %d are not mapped", p.pid)
		}
		s.GOMAXPROCS = int32(u32(procs, 0))
		if phase := p.global(varGCPhase); phase != nil {
			s.GCPhase = u32(phase, 0)
		}
		s.Sched = SchedSnapshot{
			NPIdle:     int32(u32(sched, l.NPIdle)),
			NMSpinning: int32(u32(sched, l.NMSpinning)),
			NMIdle:     -1,
			RunqSize:   int32(u32(sched, l.RunqSize)),
			GCWaiting:  sched[l.GCWaiting] != 0,
			StopWait:   int32(u32(sched, l.StopWait)),
			PIdle:      u64(sched, l.PIdle),
		}
		if l.NMIdle != Absent {
			s.Sched.NMIdle = int32(u32(sched, l.NMIdle))
		}
		now := sliceHeader{u64(header, 0), u64(header, 8), u64(header, 16)}
		switch {
		case now.len == 0 && now.ptr == 0:
			return 0, ErrNotStarted
		case now.len > maxPs || now.len > now.cap || !plausible(now.ptr):
			return 0, refuse(ReasonMemory, nil, "runtime.allp of process %d has length %d, capacity %d", p.pid, now.len, now.cap)
		case s.GOMAXPROCS < 1 || s.GOMAXPROCS > maxPs:
			return 0, refuse(ReasonMemory, nil, "runtime.gomaxprocs of process %d is %d", p.pid, s.GOMAXPROCS)
		}
		if now != p.allp || arrayPiece < 0 && !p.complete {
			p.allp, p.pAddrs, p.complete = now, p.pAddrs[:0], false
			continue
		}
		if arrayPiece >= 0 {
			array := b.piece(arrayPiece)
			if array == nil {
				return 0, refuse(ReasonMemory, nil, "runtime.allp of process %d is not mapped", p.pid)
			}
			if p.renewAddrs(array) {
				continue
			}
			p.complete = !slices.ContainsFunc(p.pAddrs, func(addr uint64) bool { return !plausible(addr) })
		}
		p.decodePs(s, first)
		p.complete = p.complete && !slices.ContainsFunc(s.Ps, func(ps PSnapshot) bool { return !ps.OK })
		if withMs {
			allm = u64(allmBytes, 0)
		}
		return allm, nil
	}
	return 0, refuse(ReasonTorn, nil, "GOMAXPROCS of process %d keeps changing", p.pid)
}

// renewAddrs takes the addresses of the Ps from the array behind allp and reports whether they were others.
func (p *Process) renewAddrs(array []byte) bool {
	n := len(array) / 8
	changed := len(p.pAddrs) != n
	for i := range n {
		addr := u64(array, int32(i)*8)
		if i == len(p.pAddrs) {
			p.pAddrs = append(p.pAddrs, addr)
		} else if p.pAddrs[i] != addr {
			p.pAddrs[i], changed = addr, true
		}
	}
	p.pAddrs = p.pAddrs[:n]
	return changed
}

// decodePs makes the Ps from the pieces beginning at number first.
func (p *Process) decodePs(s *Snapshot, first int) {
	idle := int32(0)
	for i, addr := range p.pAddrs {
		ps := PSnapshot{Addr: addr, ID: int32(i), MIndex: -1, RunqDepth: -1}
		if plausible(addr) {
			p.decodeP(s, &ps, p.batch.piece(first))
			first++
		}
		if ps.OK && ps.Status == pIdle {
			idle++
		}
		s.Ps = append(s.Ps, ps)
	}
	p.handing = idle != s.Sched.NPIdle
	for i := range s.Ps {
		if ps := &s.Ps[i]; ps.OK && !p.mayQueue(ps) {
			ps.RunqDepth = 0
		}
	}
}

// decodeP fills ps from its beginning.
func (p *Process) decodeP(s *Snapshot, ps *PSnapshot, head []byte) {
	l := &p.bin.Layout.P
	if head == nil {
		return
	}
	status := u32(head, l.Status)
	if int32(u32(head, l.ID)) != ps.ID || status > pDead {
		return
	}
	ps.OK = true
	ps.Status = status
	ps.SchedTick = u32(head, l.SchedTick)
	ps.SyscallTick = u32(head, l.SyscallTick)
	ps.Link = u64(head, l.Link)
	if m := u64(head, l.M); m == 0 || plausible(m) {
		ps.M = m
	} else {
		s.Errors++
	}
}

// mayQueue reports whether there may be something in the P's queue. There is nothing in that of a P on the idle list, runnext included (runtime/proc.go,
// pidleput), but a P that is being handed to an M has the status of an idle one, too (handoffp, procresize), and is not on the list.
func (p *Process) mayQueue(ps *PSnapshot) bool {
	return ps.OK && ps.Status != pDead && (ps.Status != pIdle || p.handing)
}

// The further pieces read of each P that may have a queue.
const (
	pieceQueue = iota // runqhead and runqtail
	pieceNext         // runnext
	pieceMode         // gcMarkWorkerMode
	pieceAgain        // runqhead once more
	piecesPerP
)

// addQueue asks for a P's queue.
func (p *Process) addQueue(addr uint64) {
	l := &p.bin.Layout.P
	low := min(l.RunqHead, l.RunqTail)
	p.batch.add(addr+uint64(low), int(max(l.RunqHead, l.RunqTail)-low)+4)
	p.batch.add(addr+uint64(l.RunNext), 8)
	p.batch.add(addr+uint64(l.GCMarkWorkerMode), 4)
	p.batch.add(addr+uint64(l.RunqHead), 4)
}

// decodeQueue fills ps from the pieces beginning at number first.
func (p *Process) decodeQueue(s *Snapshot, ps *PSnapshot, first int) {
	l := &p.bin.Layout.P
	b := &p.batch
	queue, next, mode, again := b.piece(first+pieceQueue), b.piece(first+pieceNext), b.piece(first+pieceMode), b.piece(first+pieceAgain)
	if queue == nil || next == nil || mode == nil || again == nil || u32(mode, 0) > 16 {
		ps.OK = false
		return
	}
	ps.GCMarkWorkerMode = u32(mode, 0)
	low := min(l.RunqHead, l.RunqTail)
	depth, torn := runqDepth(u32(queue, l.RunqHead-low), u32(queue, l.RunqTail-low), u32(again, 0))
	if torn {
		s.Torn++
	}
	if depth >= 0 && u64(next, 0) != 0 {
		depth++
	}
	ps.RunqDepth = depth
}

// checkPs counts the Ps that could not be read.
func (p *Process) checkPs(s *Snapshot) error {
	wrong := 0
	for i := range s.Ps {
		if !s.Ps[i].OK {
			wrong++
		}
	}
	s.Errors += wrong
	if wrong > len(s.Ps)/2 {
		return refuse(ReasonMemory, nil, "%d of the %d Ps of process %d do not look like Ps", wrong, len(s.Ps), p.pid)
	}
	return nil
}

// runqDepth is tail minus head. Both only grow, modulo 2^32; other Ps advance the head at any time and only the owner the tail, so that a head that
// stood still around the reading of the tail makes the difference exact (runtime/proc.go, runqempty). Otherwise the later head gives a lower bound,
// which is 0 where the queue was refilled in between.
func runqDepth(head, tail, headAgain uint32) (depth int32, torn bool) {
	const size = 256 // len(p.runq)
	if head == headAgain {
		if tail-head > size {
			return -1, true
		}
		return int32(tail - head), false
	}
	if d := tail - headAgain; d <= size {
		return int32(d), true
	}
	return 0, true
}

// readMs reads the Ms that carry a P, and all Ms if asked to. The list of all Ms is linked through alllink, newest first, and Ms come and go rarely:
// those known from the last walk are read in the same call, and only new ones one by one.
func (p *Process) readMs(s *Snapshot, allm uint64, withMs bool) error {
	p.mAddrs = p.mAddrs[:0]
	if p.mIndex == nil {
		p.mIndex, p.pIndex = make(map[uint64]int32), make(map[uint64]int32)
	}
	clear(p.mIndex)
	for i := range s.Ps {
		p.wantM(s.Ps[i].M)
	}
	if withMs {
		for _, addr := range p.known {
			p.wantM(addr)
		}
	}
	p.links = p.links[:0]
	if err := p.readMBatch(s, p.mAddrs, true); err != nil {
		return err
	}
	if !withMs {
		return nil
	}

	// Walk the list through what was read, fetching what was not.
	p.chain, p.known = p.chain[:0], p.known[:0]
	for addr := allm; addr != 0; {
		if len(p.known) >= maxMs {
			s.Errors++
			break
		}
		i, ok := p.mIndex[addr]
		if !ok {
			if !plausible(addr) {
				s.Errors++
				break
			}
			i = int32(len(s.Ms))
			p.mIndex[addr] = i
			p.tids.renew() // a new thread may have taken the id of one that has ended
			p.mAddrs = append(p.mAddrs, addr)
			if err := p.readMBatch(s, p.mAddrs[len(p.mAddrs)-1:], false); err != nil {
				return err
			}
		}
		if i < 0 || s.Ms[i].Addr == 0 {
			// Met before: the list loops, or it changed under our feet so much that it cannot be told apart from that. Or it leads to nothing mapped.
			s.Errors++
			break
		}
		p.known = append(p.known, addr)
		p.chain = append(p.chain, s.Ms[i])
		p.mIndex[addr] = -1
		addr = p.links[i]
	}
	// Ms that carry a P but were not met stay in the result: the list was cut short, or they left it while it was read.
	for i := range s.Ps {
		if at, ok := p.mIndex[s.Ps[i].M]; ok && at >= 0 && s.Ms[at].Addr != 0 {
			p.chain = append(p.chain, s.Ms[at])
			p.mIndex[s.Ps[i].M] = -1
		}
	}
	s.Ms = append(s.Ms[:0], p.chain...)
	clear(p.mIndex)
	for i := range s.Ms {
		p.mIndex[s.Ms[i].Addr] = int32(i)
	}
	return nil
}

// wantM puts an M on the list to read, once.
func (p *Process) wantM(addr uint64) {
	if addr == 0 {
		return
	}
	if _, dup := p.mIndex[addr]; !dup {
		p.mIndex[addr] = int32(len(p.mAddrs))
		p.mAddrs = append(p.mAddrs, addr)
	}
}

// readMBatch appends one MSnapshot for each address; Addr is 0 in those that could not be read. With queues it reads those of the Ps, too.
func (p *Process) readMBatch(s *Snapshot, addrs []uint64, queues bool) error {
	l := &p.bin.Layout.M
	b := &p.batch
	b.reset()
	if queues {
		for i := range s.Ps {
			if p.mayQueue(&s.Ps[i]) {
				p.addQueue(s.Ps[i].Addr)
			}
		}
	}
	first := b.pieces()
	window := p.bin.Layout.mWindow()
	for _, addr := range addrs {
		b.add(addr, window)
	}
	if err := b.read(p.pid); err != nil {
		return err
	}
	if first > 0 {
		n := 0
		for i := range s.Ps {
			if ps := &s.Ps[i]; p.mayQueue(ps) {
				p.decodeQueue(s, ps, n)
				n += piecesPerP
			}
		}
	}
	for i, addr := range addrs {
		m := b.piece(first + i)
		if m == nil {
			s.Errors++
			s.Ms = append(s.Ms, MSnapshot{})
			p.links = append(p.links, 0)
			continue
		}
		procid := u64(m, l.ProcID)
		if procid > 1<<22 { // PID_MAX_LIMIT
			procid = 0
			s.Errors++
		}
		ms := MSnapshot{
			Addr:     addr,
			ProcID:   int32(procid),
			ID:       int64(u64(m, l.ID)),
			CurG:     u64(m, l.CurG),
			P:        u64(m, l.P),
			NextP:    u64(m, l.NextP),
			OldP:     u64(m, l.OldP),
			Spinning: m[l.Spinning] != 0,
			Blocked:  m[l.Blocked] != 0,
		}
		ms.TID = p.tids.host(ms.ProcID)
		s.Ms = append(s.Ms, ms)
		p.links = append(p.links, u64(m, l.AllLink))
	}
	return nil
}

// readGs reads the status of the current G of each M and, for Ms without a P, the tick that tells whether the P they had is still theirs.
func (p *Process) readGs(s *Snapshot) error {
	l := &p.bin.Layout
	b := &p.batch
	b.reset()
	window := l.gWindow()
	from, to := p.Addr(p.bin.GCWorkers[0]), p.Addr(p.bin.GCWorkers[1])
	for i := range s.Ms {
		m := &s.Ms[i]
		if plausible(m.CurG) {
			b.add(m.CurG, window)
		}
		if m.leftP() {
			b.add(m.Addr+uint64(l.M.SyscallTick), 4)
		}
	}
	if err := b.read(p.pid); err != nil {
		return err
	}
	p.ticks = p.ticks[:0]
	n := 0
	for i := range s.Ms {
		m := &s.Ms[i]
		left := m.leftP()
		if plausible(m.CurG) {
			if g := b.piece(n); g != nil {
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
			if t := b.piece(n); t != nil {
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

// link joins Ps with the Ms that carry them and settles the Ps' states.
func (p *Process) link(s *Snapshot) {
	clear(p.pIndex)
	for i := range s.Ps {
		ps := &s.Ps[i]
		if !ps.OK {
			continue
		}
		// A P keeps the mode of a worker that it was given and did not run, because the mark phase was over (runtime/mgcpacer.go, releaseNextGCMarkWorker of Go 1.26):
		// the goroutine it runs tells better.
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
		if ps.Status == pSyscall {
			p.pIndex[ps.Addr] = int32(i)
		}
	}
	// Up to Go 1.25 a P in a system call is unlinked from its M, which remembers it in oldp. Several Ms may: those from which the P was taken do
	// so until they return. Taking it away advances p.syscalltick, of which the M has a copy (runtime/proc.go, reentersyscall and retake).
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
