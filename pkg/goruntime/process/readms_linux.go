package process

// readMs reads the Ms that carry a P, and all Ms if asked to. The list of all Ms is linked through alllink, newest
// first. Ms come and go rarely. So those known from the last walk are read in the same call, and only new ones one by
// one.
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
			// Met before: the list loops, or it has changed too much while it was read. Or the pointer leads to nothing
			// mapped.
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

// readMBatch appends one MSnapshot for each address; Addr is 0 in those that could not be read. With queues it reads
// those of the Ps, too.
func (p *Process) readMBatch(s *Snapshot, addrs []uint64, queues bool) error {
	l := &p.bin.Layout.M
	b := &p.batch
	b.Reset()
	if queues {
		for i := range s.Ps {
			if p.mayQueue(&s.Ps[i]) {
				p.addQueue(s.Ps[i].Addr)
			}
		}
	}
	first := b.Pieces()
	window := p.bin.Layout.MRead()
	for _, addr := range addrs {
		b.Add(addr, window)
	}
	if err := b.Read(p.pid); err != nil {
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
		m := b.Piece(first + i)
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
