package target

import "github.com/p-scope/p-scope/pkg/collector/share"

// RoomTaken is how much of a kind a target has.
func (o *Target) RoomTaken(of share.Kind) int {
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

// SetThreadsHeld notes how many threads it has in the table.
func (o *Target) SetThreadsHeld(n int) { o.threadsHeld.Store(int64(n)) }
