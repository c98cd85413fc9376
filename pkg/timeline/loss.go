package timeline

import (
	"maps"
	"slices"
	"time"
)

// lossGrain is how exactly the moment of a loss is remembered.
const lossGrain = int64(time.Second)

// maxLossEntries bounds the memory of one reason; beyond it the two oldest moments are counted as one.
const maxLossEntries = 256

type lossEntry struct {
	from, until int64 // Unix nanoseconds
	count       uint64
}

// lossLog counts lost records by reason and by when they were lost.
type lossLog struct {
	byReason map[string][]lossEntry
	totals   map[string]uint64
}

func (l *lossLog) add(reason string, n uint64, at int64) {
	if l.byReason == nil {
		l.byReason, l.totals = make(map[string][]lossEntry), make(map[string]uint64)
	}
	l.totals[reason] += n
	from := at - at%lossGrain
	es := l.byReason[reason]
	if len(es) > 0 && es[len(es)-1].until > from {
		es[len(es)-1].count += n
		return
	}
	es = append(es, lossEntry{from: from, until: from + lossGrain, count: n})
	if len(es) > maxLossEntries {
		es[1].from = es[0].from
		es[1].count += es[0].count
		es = slices.Delete(es, 0, 1)
	}
	l.byReason[reason] = es
}

// in adds to sum what was lost in the range.
func (l *lossLog) in(start, end int64, sum map[string]uint64) {
	for reason, es := range l.byReason {
		for _, e := range es {
			if e.from < end && e.until > start {
				sum[reason] += e.count
			}
		}
	}
}

func (l *lossLog) total() map[string]uint64 { return maps.Clone(l.totals) }
