package target

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// NewIntervals is how many raw intervals the target had, or would have had but for its budget, since it was last asked.
// One goroutine asks at a time.
func (o *Target) NewIntervals() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := atomic.LoadUint64(&o.shared.Sent) + o.lostInKernel(kern.ScopeLostReasonLOST_INTERVAL_BUDGET)
	since := all - o.wanted
	o.wanted = all
	return since
}

// AllowIntervals lets the kernel side send so many more.
func (o *Target) AllowIntervals(n uint64) {
	atomic.StoreUint64(&o.shared.SentLimit, atomic.LoadUint64(&o.shared.Sent)+n)
}
