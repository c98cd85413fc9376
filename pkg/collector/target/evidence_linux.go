package target

import (
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/ledger"
)

// Evidence is what the programs in the kernel have shown of a target, for who wants to know whether they work rather
// than what the target does. Snapshots have no part in it.
type Evidence struct {
	Changes uint64        // state changes of Ps that came through the ring
	WakeUps uint64        // hand-overs of a P to a thread, whose wait until it ran was measured
	Sampled time.Duration // what the samples stand for that found the target on a CPU with a P
	// StopProbes is how the probes of tier 1 are attached: one entry for each kind of link. None: they are not.
	StopProbes []string
}

// Evidence gives what has been shown of the target. ok is false once its observation has ended.
func (o *Target) Evidence() (e Evidence, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return e, false
	}
	e.Changes = o.received
	for _, h := range o.stops {
		e.Changes -= min(e.Changes, h.Count)
	}
	for _, p := range o.ps {
		for i := range p.rec.Samples {
			e.Sampled += time.Duration(atomic.LoadUint64(&p.rec.Samples[i])) * ledger.Tick
		}
		for i := range p.rec.Wake {
			e.WakeUps += atomic.LoadUint64(&p.rec.Wake[i])
		}
	}
	e.StopProbes = o.probes.Kinds()
	return e, true
}
