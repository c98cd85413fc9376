package timeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// DefaultMaxBytes bounds the ring when Options.MaxBytes is zero: two million intervals.
const DefaultMaxBytes = 32 << 20

const (
	firstChunk = 32  // records in a target's first chunk: a process that lives for a second must not cost 8 KiB
	fullChunk  = 512 // records in the chunks after it
	// chunkOverhead is what a chunk costs besides its records.
	chunkOverhead = 64
	// stopShare is the part of MaxBytes that stops may take.
	stopShare = 8
	// targetOverhead keeps many short-lived targets inside the bound as well.
	targetOverhead = 512
)

// Options of a Store.
type Options struct {
	// MaxBytes bounds the memory of intervals and stops together; 0: DefaultMaxBytes.
	MaxBytes int64
	// Now is the clock, for tests; nil: time.Now.
	Now func() time.Time
}

// Store is the bounded ring. All methods may be called from any goroutine.
//
// When it is full, the target that holds most gives up its oldest chunk, so a busy target can't push a quiet one's history out.
type Store struct {
	maxBytes int64
	now      func() time.Time

	bytes     atomic.Int64
	stopBytes atomic.Int64
	rejected  atomic.Uint64

	mu      sync.RWMutex // guards targets
	targets map[pstate.Key]*ring
	evictMu sync.Mutex // one eviction at a time
}

// New gives an empty Store.
func New(o Options) *Store {
	s := &Store{maxBytes: o.MaxBytes, now: o.Now, targets: make(map[pstate.Key]*ring)}
	if s.maxBytes <= 0 {
		s.maxBytes = DefaultMaxBytes
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// chunk holds records in the order in which they were appended. Records below len never change once written, so a reader may
// keep the slice header and read on after the lock is gone.
type chunk struct {
	records  []record
	minStart int64
	maxEnd   int64
}

// ring is what is held of one target.
type ring struct {
	mu       sync.Mutex
	chunks   []chunk // oldest first
	firstSeq uint64  // sequence number of the first record held; sequence numbers start at 1
	nextSeq  uint64
	bytes    atomic.Int64
	// heldFrom is the end of the newest record given up; 0: nothing was.
	heldFrom int64
	lastEnd  []int64 // by P

	stops         []pstate.Stop
	firstStop     uint64
	nextStop      uint64
	stopsHeldFrom int64
	stopBytes     atomic.Int64

	lost  lossLog
	ended int64
	// gone: the store has forgotten this ring; whoever still holds it must ask for the new one.
	gone bool
}

// lock gives the ring of a target, made where there is none, with its mutex held.
func (s *Store) lock(key pstate.Key) *ring {
	for {
		r := s.ring(key)
		r.mu.Lock()
		if !r.gone {
			return r
		}
		r.mu.Unlock()
	}
}

func (s *Store) ring(key pstate.Key) *ring {
	s.mu.RLock()
	r := s.targets[key]
	s.mu.RUnlock()
	if r != nil {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r = s.targets[key]; r == nil {
		r = &ring{firstSeq: 1, nextSeq: 1, firstStop: 1, nextStop: 1}
		r.bytes.Store(targetOverhead)
		s.bytes.Add(targetOverhead)
		s.targets[key] = r
	}
	return r
}

// Append adds closed intervals: per P ordered by start and not overlapping. What overlaps an earlier interval of its P is cut to
// begin where that one ends, and what is then empty, or makes no sense, is counted as lost (reason "out_of_order").
func (s *Store) Append(key pstate.Key, ivs []pstate.Interval) {
	if len(ivs) == 0 {
		return
	}
	r := s.lock(key)
	var bad uint64
	before := r.bytes.Load()
	for _, iv := range ivs {
		start, end := iv.Start, iv.End
		if iv.P < 0 || iv.P > maxP {
			bad++
			continue
		}
		if missing := int(iv.P) + 1 - len(r.lastEnd); missing > 0 {
			r.lastEnd = append(r.lastEnd, make([]int64, missing)...)
		}
		start = max(start, r.lastEnd[iv.P])
		if end <= start || iv.State >= pstate.NumStates || iv.Thread >= pstate.NumThreadStates {
			bad++
			continue
		}
		r.lastEnd[iv.P] = end
		for end-start > maxDuration {
			r.push(pack(iv.P, iv.State, iv.Thread, iv.Merged, start, start+maxDuration))
			start += maxDuration
		}
		r.push(pack(iv.P, iv.State, iv.Thread, iv.Merged, start, end))
	}
	if bad > 0 {
		r.lost.add("out_of_order", bad, s.now().UnixNano())
		s.rejected.Add(bad)
	}
	s.bytes.Add(r.bytes.Load() - before)
	r.mu.Unlock()
	s.evict()
}

// push appends one record; r.mu is held.
func (r *ring) push(rec record) {
	n := len(r.chunks)
	if n == 0 || len(r.chunks[n-1].records) == cap(r.chunks[n-1].records) {
		size := fullChunk
		if r.nextSeq == 1 {
			size = firstChunk
		}
		r.chunks = append(r.chunks, chunk{records: make([]record, 0, size), minStart: rec.start, maxEnd: rec.end()})
		r.bytes.Add(int64(size)*recordBytes + chunkOverhead)
		n++
	}
	c := &r.chunks[n-1]
	c.records = append(c.records, rec)
	c.minStart = min(c.minStart, rec.start)
	c.maxEnd = max(c.maxEnd, rec.end())
	r.nextSeq++
}

// evict gives up oldest chunks of the largest targets until the bound holds.
func (s *Store) evict() {
	if s.bytes.Load() <= s.maxBytes {
		return
	}
	s.evictMu.Lock()
	defer s.evictMu.Unlock()
	for s.bytes.Load() > s.maxBytes {
		key, r := s.largest()
		if r == nil {
			return
		}
		r.mu.Lock()
		before := r.bytes.Load()
		switch {
		case len(r.chunks) > 0:
			r.dropOldest()
		case r.ended != 0 || len(r.stops) == 0:
			// Only its bookkeeping is left, and no memory can be had from it but by forgetting it.
			s.mu.Lock()
			delete(s.targets, key)
			s.mu.Unlock()
			s.stopBytes.Add(-r.stopBytes.Swap(0))
			r.bytes.Store(0)
			r.gone = true
		default:
			s.dropStops(r, len(r.stops))
		}
		s.bytes.Add(r.bytes.Load() - before)
		r.mu.Unlock()
	}
}

func (s *Store) largest() (key pstate.Key, largest *ring) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var most int64
	for k, r := range s.targets {
		if b := r.bytes.Load(); b > most {
			key, largest, most = k, r, b
		}
	}
	return key, largest
}

// dropOldest gives up the oldest chunk; r.mu is held.
func (r *ring) dropOldest() {
	c := r.chunks[0]
	r.heldFrom = max(r.heldFrom, c.maxEnd)
	r.firstSeq += uint64(len(c.records))
	r.bytes.Add(-int64(cap(c.records))*recordBytes - chunkOverhead)
	r.chunks[0] = chunk{}
	r.chunks = r.chunks[1:]
}

// AppendStop adds a finished stop. Stops may take an eighth of the ring's memory; then the oldest go.
func (s *Store) AppendStop(key pstate.Key, stop pstate.Stop) {
	if stop.End <= stop.Start {
		s.Lost(key, "out_of_order", 1)
		return
	}
	r := s.lock(key)
	r.stops = append(r.stops, stop)
	r.nextStop++
	n := stopSize(stop)
	r.stopBytes.Add(n)
	r.bytes.Add(n)
	s.stopBytes.Add(n)
	s.bytes.Add(n)
	r.mu.Unlock()
	for s.stopBytes.Load() > s.maxBytes/stopShare {
		if !s.evictStops() {
			break
		}
	}
	s.evict()
}

func stopSize(stop pstate.Stop) int64 { return 64 + 16*int64(cap(stop.Arrivals)) }

// evictStops gives up a sixteenth of the stops of the target that holds most of them.
func (s *Store) evictStops() bool {
	s.evictMu.Lock()
	defer s.evictMu.Unlock()
	s.mu.RLock()
	var r *ring
	var most int64
	for _, c := range s.targets {
		if b := c.stopBytes.Load(); b > most {
			r, most = c, b
		}
	}
	s.mu.RUnlock()
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.bytes.Load()
	s.dropStops(r, max(1, len(r.stops)/16))
	s.bytes.Add(r.bytes.Load() - before)
	return true
}

// dropStops gives up the n oldest stops; r.mu is held, the caller settles s.bytes.
func (s *Store) dropStops(r *ring, n int) {
	for _, stop := range r.stops[:n] {
		size := stopSize(stop)
		r.stopBytes.Add(-size)
		r.bytes.Add(-size)
		s.stopBytes.Add(-size)
		r.stopsHeldFrom = max(r.stopsHeldFrom, stop.End)
	}
	r.firstStop += uint64(n)
	r.stops = append([]pstate.Stop(nil), r.stops[n:]...)
}

// Lost counts n records of the target that were never recorded, by reason.
func (s *Store) Lost(key pstate.Key, reason string, n uint64) {
	if n == 0 {
		return
	}
	r := s.lock(key)
	r.lost.add(reason, n, s.now().UnixNano())
	r.mu.Unlock()
}

// End says that the target's process ended at the given Unix nanoseconds. Its intervals stay until the ring needs the room.
func (s *Store) End(key pstate.Key, at int64) {
	s.mu.RLock()
	r := s.targets[key]
	s.mu.RUnlock()
	if r == nil {
		return
	}
	r.mu.Lock()
	r.ended = at
	r.lastEnd = nil
	r.mu.Unlock()
}

// Held lists the targets of which the ring holds something, with the moment each ended (Unix nanoseconds; 0: it lives).
func (s *Store) Held() map[pstate.Key]int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	held := make(map[pstate.Key]int64, len(s.targets))
	for k, r := range s.targets {
		r.mu.Lock()
		held[k] = r.ended
		r.mu.Unlock()
	}
	return held
}

// Rejected counts the intervals that Append could not take, over all targets.
func (s *Store) Rejected() uint64 { return s.rejected.Load() }

// Bytes is the memory in use.
func (s *Store) Bytes() int64 { return s.bytes.Load() }
