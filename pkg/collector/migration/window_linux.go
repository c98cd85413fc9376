package migration

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
)

// Count puts the probe into the target's code for a while.
func (m *Counter) Count(ctx context.Context, length time.Duration) (got Window, err error) {
	k := m.Kernel
	slots, err := m.Host.Slots()
	if err != nil {
		return got, err
	}
	file, err := m.Host.OpenExecutable()
	if err != nil {
		return got, err
	}
	defer file.Close()
	before := make([]startCounts, len(slots))
	for i, slot := range slots {
		before[i].read(&k.Starts[slot])
	}
	w := &k.MigrationWindows[m.Target]
	stray := atomic.LoadUint64(&w.HitsWithoutP)
	m.number++
	atomic.StoreUint32(&w.Number, m.number)
	atomic.StoreUint64(&w.Length, uint64(length))
	at := ledger.Monotonic()
	l, err := k.Probes.Attach(kernel.SiteIn(file, m.site, m.PID), k.Objects.Execute)
	if err != nil {
		return got, kernel.ExplainProbe(err)
	}
	// From here on hits count: not while some threads met the probe already and others did not yet.
	got.Begin = ledger.Monotonic()
	got.Took[0] = time.Duration(got.Begin - at)
	got.End = got.Begin + int64(length)
	atomic.StoreUint64(&w.Begin, uint64(got.Begin))
	atomic.StoreUint64(&w.End, uint64(got.End))
	limit := windowOver * max(m.pace.expected(length), windowCost)
	for now := got.Begin; now < got.End; now = ledger.Monotonic() {
		if !sleep(ctx, min(windowLook, time.Duration(got.End-now))) || length > minWindow &&
			m.spent(slots, before) > limit {
			if now = ledger.Monotonic(); now < got.End {
				got.End = now
				atomic.StoreUint64(&w.End, uint64(now))
			}
			break
		}
	}
	at = ledger.Monotonic()
	err = l.Close() // waits until no CPU can be in the program any more
	got.Took[1] = time.Duration(ledger.Monotonic() - at)
	atomic.StoreUint64(&w.End, 0)
	got.Hits = atomic.LoadUint64(&w.HitsWithoutP) - stray
	got.Cost = SetupCost
	for i, slot := range slots {
		var c startCounts
		c.read(&k.Starts[slot])
		c.sub(&before[i])
		got.Cost += time.Duration(c.ns)
		got.Hits += c.hits
		got.First += c.first
		got.Again += c.again
		rate, came := c.rate(time.Duration(got.End-got.Begin), length)
		got.Rates, got.Came = append(got.Rates, rate), append(got.Came, came)
	}
	got.Cost += time.Duration(got.Hits) * k.TrapCost()
	return got, err
}

// spent is what the present window has cost so far.
func (m *Counter) spent(slots []int, before []startCounts) (cost time.Duration) {
	for i, slot := range slots {
		var c startCounts
		c.read(&m.Kernel.Starts[slot])
		cost += time.Duration(c.ns-before[i].ns) + time.Duration(c.hits-before[i].hits)*m.Kernel.TrapCost()
	}
	return cost
}

// takeWindow adds a window to the counts.
func (m *Counter) takeWindow(got Window) {
	m.mu.Lock()
	defer m.mu.Unlock()
	length := time.Duration(got.End - got.Begin)
	since := length // the first one stands for itself
	if m.lastEnd != 0 {
		since = time.Duration(got.End - m.lastEnd)
	}
	m.lastEnd = got.End
	m.watched += length
	m.cost += got.Cost
	m.share = m.pace.share()
	if n := got.First + got.Again; n > 0 {
		m.known = float64(got.Again) / float64(n)
	}
	for len(m.counts) < len(got.Rates) {
		m.counts = append(m.counts, extrapolated{})
	}
	for p, rate := range got.Rates {
		m.counts[p].close(rate, since)
	}
	if m.note != nil {
		m.note(got)
	}
}
