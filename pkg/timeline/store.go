package timeline

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// DefaultMaxBytes bounds the ring when Options.MaxBytes is zero: two million intervals.
const DefaultMaxBytes = 32 << 20

const (
	// firstChunk and fullChunk are records in a target's first chunk and at most in one after it; each is twice the one
	// before. A process that lives for a second must not cost 8 KiB.
	firstChunk = 32
	fullChunk  = 512
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
// When it is full, ended targets that hold nothing are forgotten first, then those that ended longest ago as far as the
// ended hold more than a quarter of the memory; then the target that holds most gives up its oldest chunk, so a busy
// target can't push a quiet one's history out.
//
// Locks are taken in this order, and none of an earlier place while one of a later place is held: evictMu, mu, the
// mutex of one ring. No method holds two rings' mutexes at once.
type Store struct {
	maxBytes int64
	now      func() time.Time

	bytes     atomic.Int64
	stopBytes atomic.Int64
	rejected  atomic.Uint64
	forgotten atomic.Uint64
	living    atomic.Int64 // targets that are not in ended

	evictMu sync.Mutex   // one eviction at a time
	mu      sync.RWMutex // guards targets, ended and the field inEnded of rings
	targets map[pstate.Key]*ring
	ended   list.List // the rings of ended targets, in the order in which they ended
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

// chunk holds records in the order in which they were appended. Records below len never change once written, so a
// reader may keep the slice header and read on after the lock is gone.
type chunk struct {
	records  []record
	minStart int64
	maxEnd   int64
}

// ring is what is held of one target.
type ring struct {
	key     pstate.Key
	inEnded *list.Element // its place in Store.ended; guarded by Store.mu

	mu       sync.Mutex // guards what follows, but for the atomic fields
	chunks   []chunk    // oldest first
	firstSeq uint64     // sequence number of the first record held; sequence numbers start at 1
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
	ended atomic.Int64 // Unix nanoseconds; 0: it lives
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
		r = &ring{key: key, firstSeq: 1, nextSeq: 1, firstStop: 1, nextStop: 1}
		r.bytes.Store(targetOverhead)
		s.bytes.Add(targetOverhead)
		s.targets[key] = r
		s.living.Add(1)
	}
	return r
}

// Append adds closed intervals: per P ordered by start and not overlapping. What overlaps an earlier interval of its P
// is cut to begin where that one ends, and what is then empty, or makes no sense, is counted as lost (reason
// "out_of_order").
func (s *Store) Append(key pstate.Key, ivs []pstate.Interval) {
	if len(ivs) == 0 {
		return
	}
	r := s.lock(key)
	r.ended.Store(0) // what is observed lives: another program of the same process, after an exec
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
		size := firstChunk
		if n > 0 {
			size = min(2*cap(r.chunks[n-1].records), fullChunk)
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

// AppendStop adds a finished stop. Stops may take an eighth of the ring's memory; then the oldest go.
func (s *Store) AppendStop(key pstate.Key, stop pstate.Stop) {
	if stop.End <= stop.Start {
		s.Lost(key, "out_of_order", 1)
		return
	}
	r := s.lock(key)
	r.ended.Store(0)
	r.stops = append(r.stops, stop)
	r.nextStop++
	n := stopSize(stop)
	r.stopBytes.Add(n)
	r.bytes.Add(n)
	s.stopBytes.Add(n)
	s.bytes.Add(n)
	r.mu.Unlock()
	s.evictStops()
	s.evict()
}

func stopSize(stop pstate.Stop) int64 { return 64 + 16*int64(cap(stop.Arrivals)) }

// Lost counts n records of the target that were never recorded, by reason.
func (s *Store) Lost(key pstate.Key, reason string, n uint64) {
	if n == 0 {
		return
	}
	r := s.lock(key)
	r.lost.add(reason, n, s.now().UnixNano())
	r.mu.Unlock()
}

// End says that the target's process ended at the given Unix nanoseconds. Its intervals stay until the ring needs the
// room.
func (s *Store) End(key pstate.Key, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.targets[key]
	if r == nil {
		return
	}
	r.mu.Lock()
	r.ended.Store(at)
	r.lastEnd = nil
	r.mu.Unlock()
	if r.inEnded == nil {
		r.inEnded = s.ended.PushBack(r)
		s.living.Add(-1)
	} else {
		s.ended.MoveToBack(r.inEnded)
	}
}

// Held lists the targets of which the ring holds something, with the moment each ended (Unix nanoseconds; 0: it lives).
func (s *Store) Held() map[pstate.Key]int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	held := make(map[pstate.Key]int64, len(s.targets))
	for k, r := range s.targets {
		held[k] = r.ended.Load()
	}
	return held
}

// Rejected counts the intervals that Append could not take, over all targets.
func (s *Store) Rejected() uint64 { return s.rejected.Load() }

// Forgotten counts the ended targets that were given up with all that was held of them, to make room.
func (s *Store) Forgotten() uint64 { return s.forgotten.Load() }

// Bytes is the memory in use.
func (s *Store) Bytes() int64 { return s.bytes.Load() }
