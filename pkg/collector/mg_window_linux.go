package collector

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
)

// window puts the probe into the target's code for a while.
func (m *migrationCounter) window(ctx context.Context, length time.Duration) (got migrationWindow, err error) {
	k := m.kernel
	slots, err := m.host.Slots()
	if err != nil {
		return got, err
	}
	file, err := m.host.OpenExecutable()
	if err != nil {
		return got, err
	}
	defer file.Close()
	before := make([]startCounts, len(slots))
	for i, slot := range slots {
		before[i].read(&k.Starts[slot])
	}
	w := &k.MigrationWindows[m.target]
	stray := atomic.LoadUint64(&w.Stray)
	m.number++
	atomic.StoreUint32(&w.Number, m.number)
	atomic.StoreUint64(&w.Length, uint64(length))
	at := ledger.Monotonic()
	l, err := k.Probes.Attach(kernel.SiteIn(file, m.site, m.pid), k.Objects.Execute)
	if err != nil {
		return got, kernel.ExplainProbe(err)
	}
	// From here on hits count: not while some threads met the probe already and others did not yet.
	got.begin = ledger.Monotonic()
	got.took[0] = time.Duration(got.begin - at)
	got.end = got.begin + int64(length)
	atomic.StoreUint64(&w.Begin, uint64(got.begin))
	atomic.StoreUint64(&w.End, uint64(got.end))
	limit := windowOver * max(m.pace.expected(length), windowCost)
	for now := got.begin; now < got.end; now = ledger.Monotonic() {
		if !sleep(ctx, min(windowLook, time.Duration(got.end-now))) || length > minWindow && m.spent(slots, before) > limit {
			if now = ledger.Monotonic(); now < got.end {
				got.end = now
				atomic.StoreUint64(&w.End, uint64(now))
			}
			break
		}
	}
	at = ledger.Monotonic()
	err = l.Close() // waits until no CPU can be in the program any more
	got.took[1] = time.Duration(ledger.Monotonic() - at)
	atomic.StoreUint64(&w.End, 0)
	got.hits = atomic.LoadUint64(&w.Stray) - stray
	got.cost = windowTrap
	got.ps = make([]startCounts, len(slots))
	for i, slot := range slots {
		c := &got.ps[i]
		c.read(&k.Starts[slot])
		c.sub(&before[i])
		got.cost += time.Duration(c.ns)
		got.hits += c.hits
		got.first += c.first
		got.again += c.again
		rate, came := c.rate(time.Duration(got.end-got.begin), length)
		got.rates, got.came = append(got.rates, rate), append(got.came, came)
	}
	got.cost += time.Duration(got.hits) * k.TrapCost()
	return got, err
}

// spent is what the present window has cost so far.
func (m *migrationCounter) spent(slots []int, before []startCounts) (cost time.Duration) {
	for i, slot := range slots {
		var c startCounts
		c.read(&m.kernel.Starts[slot])
		cost += time.Duration(c.ns-before[i].ns) + time.Duration(c.hits-before[i].hits)*m.kernel.TrapCost()
	}
	return cost
}

// takeWindow adds a window to the counts.
func (m *migrationCounter) takeWindow(got migrationWindow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	length := time.Duration(got.end - got.begin)
	since := length // the first one stands for itself
	if m.lastEnd != 0 {
		since = time.Duration(got.end - m.lastEnd)
	}
	m.lastEnd = got.end
	m.watched += length
	m.cost += got.cost
	m.share = m.pace.share()
	if n := got.first + got.again; n > 0 {
		m.known = float64(got.again) / float64(n)
	}
	for len(m.counts) < len(got.rates) {
		m.counts = append(m.counts, extrapolated{})
	}
	for p, rate := range got.rates {
		m.counts[p].close(rate, since)
	}
	if m.note != nil {
		m.note(got)
	}
}
