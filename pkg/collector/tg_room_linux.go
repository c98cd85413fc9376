package collector

import "github.com/p-scope/p-scope/pkg/collector/share"

// roomTaken is how much of a kind a target has.
func (o *observed) roomTaken(of share.Kind) int {
	switch of {
	case share.Targets:
		return 1
	case share.Ps:
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.chunks)
	}
	return int(o.threadsHeld.Load())
}

// setThreadsHeld notes how many threads it has in the table.
func (o *observed) setThreadsHeld(n int) { o.threadsHeld.Store(int64(n)) }
