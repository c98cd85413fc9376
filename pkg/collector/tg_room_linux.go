package collector

// roomTaken is how much of a kind a target has.
func (o *observed) roomTaken(of roomOf) int {
	switch of {
	case roomForTargets:
		return 1
	case roomForPs:
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.chunks)
	}
	return int(o.threadsHeld.Load())
}

// setThreadsHeld notes how many threads it has in the table.
func (o *observed) setThreadsHeld(n int) { o.threadsHeld.Store(int64(n)) }
