package migration

import (
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// Window is what one window showed.
type Window struct {
	Begin, End int64 // CLOCK_MONOTONIC
	Hits       uint64
	Cost       time.Duration
	First      uint64           // starts in it whose goroutine was not seen before in it
	Again      uint64           // the others
	Came       []uint64         // by P: migrations seen
	Rates      []float64        // by P: migrations per second
	Took       [2]time.Duration // attaching and detaching
}

// startCounts is what the kernel side counts of one P.
type startCounts struct {
	hits, ns, first, again uint64
	came, gaps             [migrationGaps]uint64
}

const migrationGaps = len(kern.ScopeP_startCounts{}.GapNs)

func (c *startCounts) read(from *kern.ScopeP_startCounts) {
	c.hits, c.ns = atomic.LoadUint64(&from.Hits), atomic.LoadUint64(&from.Ns)
	c.first, c.again = atomic.LoadUint64(&from.First), atomic.LoadUint64(&from.Repeated)
	for i := range c.came {
		c.came[i], c.gaps[i] = atomic.LoadUint64(&from.Migrated[i]), atomic.LoadUint64(&from.GapNs[i])
	}
}

func (c *startCounts) sub(b *startCounts) {
	c.hits, c.ns, c.first, c.again = c.hits-b.hits, c.ns-b.ns, c.first-b.first, c.again-b.again
	for i := range c.came {
		c.came[i], c.gaps[i] = c.came[i]-b.came[i], c.gaps[i]-b.gaps[i]
	}
}

// rate is what the migrations seen in a window say of their number per second. Two starts of a goroutine with time g
// between them both fall into a window of length w with a probability that shrinks by g/w against that of one, so that
// each such pair stands for 1/(1-g/w). The kernel side has sorted the times by eighths of the length that was planned.
func (c *startCounts) rate(length, planned time.Duration) (perSecond float64, came uint64) {
	if length <= 0 {
		return 0, 0
	}
	sum := 0.0
	for i, n := range c.came {
		came += n
		longest := float64(i+1) / float64(migrationGaps) * planned.Seconds() / length.Seconds()
		if n > 0 && longest < maxGap+1e-9 {
			sum += float64(n) / (1 - float64(c.gaps[i])/float64(n)/float64(length))
		}
	}
	return sum / length.Seconds(), came
}
