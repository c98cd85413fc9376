package timeline

import "github.com/p-scope/p-scope/pkg/pstate"

// Cursor is a place in one target's intervals and stops. The zero Cursor is the oldest record held.
type Cursor struct {
	Interval uint64 // sequence number of the next interval
	Stop     uint64 // sequence number of the next stop
}

// News is what was appended to a target since a Cursor, in the order in which it was appended: per P by start.
type News struct {
	Intervals []pstate.Interval
	Stops     []pstate.Stop
	// Next is the cursor to ask with the next time.
	Next Cursor
	// Missed counts intervals (and MissedStops stops) the reader was too slow for: given up by the ring, or beyond
	// limit.
	Missed      uint64
	MissedStops uint64
	// Ended is when the process ended; 0: it lives, or the ring knows nothing of it.
	Ended int64
}

// Since gives what was appended after the cursor, at most the newest limit intervals (0: no bound; negative: none, just
// stops). The ring keeps nothing for a reader: one that asks too late or too seldom is told what it missed.
func (s *Store) Since(key pstate.Key, from Cursor, limit int) News {
	r := s.held(key)
	if r == nil {
		return News{Next: from}
	}
	r.mu.Lock()
	news := News{Next: Cursor{Interval: r.nextSeq, Stop: r.nextStop}, Ended: r.ended.Load()}
	first := max(from.Interval, 1)
	if first < r.firstSeq {
		if from.Interval > 0 {
			news.Missed = r.firstSeq - first
		}
		first = r.firstSeq
	}
	if limit < 0 {
		first, news.Missed = r.nextSeq, 0
	}
	if limit > 0 && r.nextSeq > first && r.nextSeq-first > uint64(limit) {
		news.Missed += r.nextSeq - first - uint64(limit)
		first = r.nextSeq - uint64(limit)
	}
	var chunks []chunk
	skip := 0
	if first < r.nextSeq {
		at := r.firstSeq
		for i, c := range r.chunks {
			if at+uint64(len(c.records)) > first {
				skip = int(first - at)
				chunks = append(chunks, r.chunks[i:]...)
				break
			}
			at += uint64(len(c.records))
		}
	}
	firstStop := max(from.Stop, 1)
	if firstStop < r.firstStop {
		if from.Stop > 0 {
			news.MissedStops = r.firstStop - firstStop
		}
		firstStop = r.firstStop
	}
	if firstStop < r.nextStop {
		news.Stops = append(news.Stops, r.stops[firstStop-r.firstStop:]...)
	}
	r.mu.Unlock()

	for _, c := range chunks {
		for _, rec := range c.records[skip:] {
			news.Intervals = append(news.Intervals, rec.interval())
		}
		skip = 0
	}
	return news
}

// Cursor is the end of what is held of a target now: a reader that starts here gets only what is new.
func (s *Store) Cursor(key pstate.Key) Cursor {
	r := s.held(key)
	if r == nil {
		return Cursor{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return Cursor{Interval: r.nextSeq, Stop: r.nextStop}
}

// LostTotals counts all that was lost of a target since the beginning, by reason.
func (s *Store) LostTotals(key pstate.Key) map[string]uint64 {
	r := s.held(key)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost.total()
}
