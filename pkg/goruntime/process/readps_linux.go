package process

import (
	"cmp"
	"slices"

	"github.com/p-scope/p-scope/pkg/goruntime/layout"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

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

// place says in which span a variable lies, and how far from its start. span is -1 for a variable that is not known.
type place struct {
	span int
	off  int32
}

// maxGap is how many bytes may lie between variables that are read in one piece. The kernel looks up the page for each
// piece anew, which takes longer than to copy what is between.
const maxGap = 512

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
		varAllP:       {p.Addr(v.AllP), 24},
		varGOMAXPROCS: {p.Addr(v.GOMAXPROCS), 4},
		varAllM:       {p.Addr(v.AllM), 8},
		varGCPhase:    {p.Addr(v.GCPhase), 4},
		varSched:      {p.Addr(v.Sched), p.bin.Layout.SchedRead()},
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
			if gap := at.addr - last.addr; gap <= uint64(last.size+maxGap) {
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

// global is a variable's value in what was read of the spans, which are the first pieces of the batch. It is nil if the
// span could not be read.
func (p *Process) global(i int) []byte {
	at := p.places[i]
	if at.span < 0 {
		return nil
	}
	piece := p.batch.Piece(at.span)
	if piece == nil {
		return nil
	}
	return piece[at.off:]
}

// readPs reads runtime.sched, allp, gomaxprocs and gcphase, with withMs also allm, and all Ps.
//
// Each piece costs the look-up of its page, so what is not needed is left out. The array behind allp moves only when
// GOMAXPROCS grows, and a P that is in it stays there (runtime/proc.go, procresize). So the array is read when its
// header is another one, or as long as it has holes. The Ps are read where they were the last time, and again only if
// that was wrong.
func (p *Process) readPs(s *Snapshot, withMs bool) (allm uint64, err error) {
	p.locate()
	for range 4 {
		at := p.addPs(withMs)
		if err := p.batch.Read(p.pid); err != nil {
			return 0, err
		}
		if at.canary >= 0 && p.batch.Piece(at.canary) == nil {
			return 0, refusal.ErrExeced // the initial stack is gone; its address is random in every new image
		}
		now, allm, err := p.decodeVars(s)
		if err != nil {
			return 0, err
		}
		if now != p.allp || at.array < 0 && !p.complete {
			p.allp, p.pAddrs, p.complete = now, p.pAddrs[:0], false
			continue
		}
		if at.array >= 0 {
			array := p.batch.Piece(at.array)
			if array == nil {
				return 0, refusal.New(refusal.Memory, nil, "runtime.allp of process %d is not mapped", p.pid)
			}
			if p.renewAddrs(array) {
				continue
			}
			p.complete = !slices.ContainsFunc(p.pAddrs, func(addr uint64) bool { return !plausible(addr) })
		}
		p.decodePs(s, at.ps)
		p.complete = p.complete && !slices.ContainsFunc(s.Ps, func(ps PSnapshot) bool { return !ps.OK })
		if !withMs {
			return 0, nil
		}
		return allm, nil
	}
	return 0, refusal.New(refusal.Torn, nil, "GOMAXPROCS of process %d keeps changing", p.pid)
}

// psPieces are the numbers of pieces that addPs asked for; -1 for one that is not needed.
type psPieces struct {
	array  int // what allp points to
	canary int
	ps     int // the first P
}

// addPs asks for the variables, which are the first pieces, and for the Ps.
func (p *Process) addPs(withMs bool) (at psPieces) {
	b := &p.batch
	b.Reset()
	for _, v := range p.spans {
		if v.onlyMs && !withMs {
			v.size = 0
		}
		b.Add(v.addr, v.size)
	}
	at.array, at.canary = -1, -1
	if p.allp.len > 0 && !p.complete {
		at.array = b.Add(p.allp.ptr, int(p.allp.len)*8)
	}
	if p.canary != 0 {
		at.canary = b.Add(p.canary, 8)
	}
	at.ps = b.Pieces()
	size := p.bin.Layout.PRead()
	for _, addr := range p.pAddrs {
		if plausible(addr) {
			b.Add(addr, size)
		}
	}
	return at
}

// decodeVars fills in what the variables say. It gives the header of allp, and allm.
func (p *Process) decodeVars(s *Snapshot) (allp sliceHeader, allm uint64, err error) {
	l := &p.bin.Layout.Sched
	header, procs := p.global(varAllP), p.global(varGOMAXPROCS)
	allmBytes, sched := p.global(varAllM), p.global(varSched)
	if header == nil || procs == nil || allmBytes == nil || sched == nil {
		return allp, 0, refusal.New(refusal.Memory, nil, "the runtime's variables of process %d are not mapped", p.pid)
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
	if l.NMIdle != layout.Absent {
		s.Sched.NMIdle = int32(u32(sched, l.NMIdle))
	}
	allp = sliceHeader{u64(header, 0), u64(header, 8), u64(header, 16)}
	switch {
	case allp.len == 0 && allp.ptr == 0:
		return allp, 0, refusal.ErrNotStarted
	case allp.len > maxPs || allp.len > allp.cap || !plausible(allp.ptr):
		return allp, 0, refusal.New(refusal.Memory, nil, "runtime.allp of process %d has length %d, capacity %d",
			p.pid, allp.len, allp.cap)
	case s.GOMAXPROCS < 1 || s.GOMAXPROCS > maxPs:
		return allp, 0, refusal.New(refusal.Memory, nil, "runtime.gomaxprocs of process %d is %d", p.pid, s.GOMAXPROCS)
	}
	// Without the Ms allm may not have been read: the piece has no bytes then.
	if len(allmBytes) >= 8 {
		allm = u64(allmBytes, 0)
	}
	return allp, allm, nil
}

// renewAddrs takes the addresses of the Ps from the array behind allp, and reports whether any has changed.
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
			p.decodeP(s, &ps, p.batch.Piece(first))
			first++
		}
		if ps.OK && ps.Status == layout.StatusIdle {
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
	if int32(u32(head, l.ID)) != ps.ID || status > layout.StatusDead {
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

// mayQueue reports whether there may be something in the P's queue. A P on the idle list has an empty queue and no
// runnext (runtime/proc.go, pidleput). A P that is being handed to an M has the status of an idle P, too (handoffp,
// procresize), but is not on the list.
func (p *Process) mayQueue(ps *PSnapshot) bool {
	return ps.OK && ps.Status != layout.StatusDead && (ps.Status != layout.StatusIdle || p.handing)
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
	p.batch.Add(addr+uint64(low), int(max(l.RunqHead, l.RunqTail)-low)+4)
	p.batch.Add(addr+uint64(l.RunNext), 8)
	p.batch.Add(addr+uint64(l.GCMarkWorkerMode), 4)
	p.batch.Add(addr+uint64(l.RunqHead), 4)
}

// decodeQueue fills ps from the pieces beginning at number first.
func (p *Process) decodeQueue(s *Snapshot, ps *PSnapshot, first int) {
	l := &p.bin.Layout.P
	b := &p.batch
	queue, next := b.Piece(first+pieceQueue), b.Piece(first+pieceNext)
	mode, again := b.Piece(first+pieceMode), b.Piece(first+pieceAgain)
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
		return refusal.New(refusal.Memory, nil, "%d of the %d Ps of process %d do not look like Ps", wrong, len(s.Ps),
			p.pid)
	}
	return nil
}

// runqDepth is tail minus head. Both only grow, modulo 2^32. Other Ps advance the head at any time, and only the owner
// advances the tail. So the difference is exact if the head was the same before and after the tail was read
// (runtime/proc.go, runqempty). Otherwise the later head gives a lower bound, which is 0 where the queue was refilled
// in between.
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
