package timeline

import (
	"cmp"
	"slices"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// DefaultMaxPerP is the bound of intervals per P when Query.MaxPerP is zero.
const DefaultMaxPerP = 2000

// Query asks for a range of intervals or stops.
type Query struct {
	Keys  []pstate.Key // empty: all
	Ps    []int32      // empty: all
	Start int64        // Unix nanoseconds
	End   int64        // Unix nanoseconds, exclusive
	// MaxPerP bounds the intervals of each P (see Merge); 0: DefaultMaxPerP, negative: no bound.
	MaxPerP int
	// Open gives the intervals that have not ended yet, so that an answer reaches up to now; may be nil.
	Open func(pstate.Key) []pstate.Interval
	// Limit bounds the stops of an answer, the longest are kept; 0: no bound.
	Limit int
}

// Result answers a Query for intervals.
type Result struct {
	Targets []TargetIntervals
	// Lost counts what was never recorded in the range, by reason.
	Lost map[string]uint64
	// HeldFrom: before this moment (Unix nanoseconds) intervals of at least one of the targets have been given up; 0 if
	// none of the range has.
	HeldFrom int64
}

// TargetIntervals are the intervals of one target, ordered by P.
type TargetIntervals struct {
	Key      pstate.Key
	HeldFrom int64 // as in Result, for this target
	Ps       []PIntervals
}

// PIntervals are the intervals of one P, ordered by start, not overlapping, cut to the range asked for.
type PIntervals struct {
	P         int32
	Intervals []pstate.Interval
}

// StopsResult answers a Query for stops.
type StopsResult struct {
	Stops    []TargetStop // by start
	Omitted  uint64       // left out by Query.Limit
	HeldFrom int64
}

// TargetStop is a stop of one target.
type TargetStop struct {
	Key pstate.Key
	pstate.Stop
}

// Intervals gives the intervals that overlap the range.
func (s *Store) Intervals(q Query) Result {
	res := Result{Lost: make(map[string]uint64)}
	limit := q.MaxPerP
	if limit == 0 {
		limit = DefaultMaxPerP
	}
	for _, key := range s.keys(q.Keys) {
		ti := TargetIntervals{Key: key}
		byP := make(map[int32][]pstate.Interval)
		if r := s.held(key); r != nil {
			chunks := r.overlapping(q.Start, q.End, res.Lost, &ti.HeldFrom)
			for _, c := range chunks {
				for _, rec := range c.records {
					if rec.start >= q.End || rec.end() <= q.Start || !wanted(q.Ps, rec.p()) {
						continue
					}
					iv := rec.interval()
					byP[iv.P] = append(byP[iv.P], iv)
				}
			}
		}
		if q.Open != nil {
			for _, iv := range q.Open(key) {
				if iv.Start >= q.End || iv.End <= q.Start || !wanted(q.Ps, iv.P) {
					continue
				}
				byP[iv.P] = append(byP[iv.P], iv)
			}
		}
		res.HeldFrom = max(res.HeldFrom, ti.HeldFrom)
		if len(byP) == 0 && ti.HeldFrom == 0 {
			continue
		}
		for p, ivs := range byP {
			ivs = clip(ivs, q.Start, q.End)
			if limit > 0 {
				ivs = Merge(ivs, limit)
			} else {
				ivs = Join(ivs)
			}
			ti.Ps = append(ti.Ps, PIntervals{P: p, Intervals: ivs})
		}
		slices.SortFunc(ti.Ps, func(a, b PIntervals) int { return int(a.P) - int(b.P) })
		res.Targets = append(res.Targets, ti)
	}
	return res
}

// overlapping gives the chunks that may hold something of the range. The records in them are read without the lock.
func (r *ring) overlapping(start, end int64, lost map[string]uint64, heldFrom *int64) (cs []chunk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.chunks {
		if c.minStart < end && c.maxEnd > start {
			cs = append(cs, c)
		}
	}
	r.lost.in(start, end, lost)
	if r.heldFrom > start {
		*heldFrom = r.heldFrom
	}
	return cs
}

// clip orders by start, cuts to the range and cuts away overlaps (an open interval may already be in the ring, closed).
func clip(ivs []pstate.Interval, start, end int64) []pstate.Interval {
	if !slices.IsSortedFunc(ivs, byStart) {
		slices.SortStableFunc(ivs, byStart)
	}
	out := ivs[:0]
	last := start
	for _, iv := range ivs {
		iv.Start, iv.End = max(iv.Start, last), min(iv.End, end)
		if iv.End <= iv.Start {
			continue
		}
		last = iv.End
		out = append(out, iv)
	}
	return out
}

func byStart(a, b pstate.Interval) int {
	switch {
	case a.Start < b.Start:
		return -1
	case a.Start > b.Start:
		return 1
	}
	return 0
}

func wanted(ps []int32, p int32) bool { return len(ps) == 0 || slices.Contains(ps, p) }

// Stops gives the stops that overlap the range.
func (s *Store) Stops(q Query) StopsResult {
	var res StopsResult
	for _, key := range s.keys(q.Keys) {
		r := s.held(key)
		if r == nil {
			continue
		}
		r.mu.Lock()
		for _, stop := range r.stops {
			if stop.Start < q.End && stop.End > q.Start {
				res.Stops = append(res.Stops, TargetStop{Key: key, Stop: stop})
			}
		}
		if r.stopsHeldFrom > q.Start {
			res.HeldFrom = max(res.HeldFrom, r.stopsHeldFrom)
		}
		r.mu.Unlock()
	}
	if q.Limit > 0 && len(res.Stops) > q.Limit {
		slices.SortStableFunc(res.Stops, func(a, b TargetStop) int { return int(b.Duration() - a.Duration()) })
		res.Omitted = uint64(len(res.Stops) - q.Limit)
		res.Stops = res.Stops[:q.Limit]
	}
	slices.SortStableFunc(res.Stops, func(a, b TargetStop) int {
		if a.Start < b.Start {
			return -1
		}
		return 1
	})
	return res
}

func (s *Store) held(key pstate.Key) *ring {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.targets[key]
}

// keys gives the keys asked for, or all held, in a stable order.
func (s *Store) keys(asked []pstate.Key) []pstate.Key {
	if len(asked) > 0 {
		return asked
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := make([]pstate.Key, 0, len(s.targets))
	for k := range s.targets {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b pstate.Key) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.StartTime, b.StartTime),
			cmp.Compare(a.Runtime, b.Runtime))
	})
	return keys
}
