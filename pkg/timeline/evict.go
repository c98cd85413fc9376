package timeline

import (
	"cmp"
	"container/heap"

	"github.com/p-scope/p-scope/pkg/pstate"
)

const (
	// slack is the part of a bound that is freed beyond it, so that one look through all targets makes room for many
	// intervals.
	slack = 16
	// endedShare is the part of the memory that ended targets may hold when the living need room.
	endedShare = 4
)

// bound is what may be held: maxBytes, but no less than what the living targets cost besides their intervals and stops,
// which stays, and a quarter of maxBytes.
func (s *Store) bound() int64 {
	return max(s.maxBytes, s.living.Load()*targetOverhead+s.maxBytes/4)
}

// evict makes room when the bound is passed; no lock is held by the caller.
func (s *Store) evict() {
	if s.bytes.Load() <= s.bound() {
		return
	}
	s.evictMu.Lock()
	defer s.evictMu.Unlock()
	if s.bytes.Load() <= s.bound() {
		return
	}
	enough := s.bound() - s.maxBytes/slack
	s.forgetEnded(enough)
	s.takeFromLargest((*ring).size, func() bool { return s.bytes.Load() <= enough }, func(r *ring) bool {
		if len(r.chunks) > 0 {
			r.dropOldest()
			return true
		}
		return s.dropStops(r, len(r.stops))
	})
	if s.bytes.Load() <= enough {
		return
	}
	// Only bookkeeping is left.
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetOldest(func() bool { return s.bytes.Load() <= enough })
}

// forgetEnded forgets ended targets that hold nothing, and of the others those that ended first, down to their share.
func (s *Store) forgetEnded(enough int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ofEnded int64
	for e := s.ended.Front(); e != nil; {
		r := e.Value.(*ring)
		e = e.Next()
		switch size := r.size(); {
		case r.ended.Load() == 0: // it goes on after all
			s.ended.Remove(r.inEnded)
			r.inEnded = nil
			s.living.Add(1)
		case size <= targetOverhead && s.bytes.Load() > enough:
			s.forget(r)
		default:
			ofEnded += size
		}
	}
	before := s.bytes.Load()
	s.forgetOldest(func() bool {
		now := s.bytes.Load()
		return now <= enough || ofEnded-(before-now) <= s.maxBytes/endedShare
	})
}

// forgetOldest forgets ended targets, first those that ended first, until it is enough; s.mu is held.
func (s *Store) forgetOldest(enough func() bool) {
	for e := s.ended.Front(); e != nil && !enough(); {
		r := e.Value.(*ring)
		e = e.Next()
		if r.ended.Load() != 0 {
			s.forget(r)
		}
	}
}

// forget gives up an ended target with all that is held of it; s.mu is held.
func (s *Store) forget(r *ring) {
	r.mu.Lock()
	s.bytes.Add(-r.bytes.Swap(0))
	s.stopBytes.Add(-r.stopBytes.Swap(0))
	r.chunks, r.stops = nil, nil
	r.gone = true
	r.mu.Unlock()
	delete(s.targets, r.key)
	s.ended.Remove(r.inEnded)
	r.inEnded = nil
	s.forgotten.Add(1)
}

// evictStops brings stops down to their share of the memory.
func (s *Store) evictStops() {
	most := s.maxBytes / stopShare
	if s.stopBytes.Load() <= most {
		return
	}
	s.evictMu.Lock()
	defer s.evictMu.Unlock()
	if s.stopBytes.Load() <= most {
		return
	}
	size := func(r *ring) int64 { return r.stopBytes.Load() }
	s.takeFromLargest(size, func() bool { return s.stopBytes.Load() <= most-most/slack }, func(r *ring) bool {
		return s.dropStops(r, max(1, len(r.stops)/16))
	})
}

// takeFromLargest lets the target that holds most give something up, again and again until it is enough or no target
// has anything to give. drop gives something up of a ring whose mutex is held, and says whether there was anything.
func (s *Store) takeFromLargest(size func(*ring) int64, enough func() bool, drop func(*ring) bool) {
	if enough() {
		return
	}
	s.mu.RLock()
	hs := make(holders, 0, len(s.targets))
	for _, r := range s.targets {
		hs = append(hs, holder{r, size(r)})
	}
	s.mu.RUnlock()
	heap.Init(&hs)
	for len(hs) > 0 && !enough() {
		r := hs[0].ring
		r.mu.Lock()
		before := r.bytes.Load()
		dropped := !r.gone && drop(r)
		s.bytes.Add(r.bytes.Load() - before)
		r.mu.Unlock()
		if !dropped {
			heap.Pop(&hs)
			continue
		}
		hs[0].size = size(r)
		heap.Fix(&hs, 0)
	}
}

// size is the memory of a ring, its bookkeeping included.
func (r *ring) size() int64 { return r.bytes.Load() }

// dropOldest gives up the oldest chunk; r.mu is held, the caller settles the store's bytes.
func (r *ring) dropOldest() {
	c := r.chunks[0]
	r.heldFrom = max(r.heldFrom, c.maxEnd)
	r.firstSeq += uint64(len(c.records))
	r.bytes.Add(-int64(cap(c.records))*recordBytes - chunkOverhead)
	r.chunks[0] = chunk{}
	r.chunks = r.chunks[1:]
}

// dropStops gives up the n oldest stops and says whether there were any; r.mu is held, the caller settles the store's
// bytes.
func (s *Store) dropStops(r *ring, n int) bool {
	n = min(n, len(r.stops))
	if n == 0 {
		return false
	}
	for _, stop := range r.stops[:n] {
		size := stopSize(stop)
		r.stopBytes.Add(-size)
		r.bytes.Add(-size)
		s.stopBytes.Add(-size)
		r.stopsHeldFrom = max(r.stopsHeldFrom, stop.End)
	}
	r.firstStop += uint64(n)
	r.stops = append([]pstate.Stop(nil), r.stops[n:]...)
	return true
}

// holders is a heap of rings with the largest on top. Sizes are those of when they were looked at.
type holders []holder

type holder struct {
	ring *ring
	size int64
}

func (h holders) Len() int           { return len(h) }
func (h holders) Less(i, j int) bool { return cmp.Compare(h[i].size, h[j].size) > 0 }
func (h holders) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *holders) Push(x any)        { *h = append(*h, x.(holder)) }
func (h *holders) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
