package target

import (
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/ledger"
)

// learnLags brings the kernel side's lags up to date. The caller holds mu.
func (o *Target) learnLags(now uint64) {
	since := time.Duration(now-o.lagsAt) * ledger.Tick
	o.lagsAt = now
	wanting := false
	for i := range o.lags {
		ticks, bursts := atomic.LoadUint64(&o.shared.LagTicks[i]), atomic.LoadUint64(&o.shared.LagBursts[i])
		atomic.StoreUint32(&o.shared.Lag[i], o.lags[i].Learn(ticks, bursts, o.kernel.Samples.Period, since))
		wanting = wanting || o.lags[i].WantsSamples
	}
	o.learning.Store(wanting && o.scope().Events)
}

// WantsSamples says whether samples taken more often would teach something of the target.
func (o *Target) WantsSamples() bool { return o.learning.Load() }
