package metrics

import "time"

// looks is what a reader was told of a queue last: a gauge of its depth is the mean over the looks since then.
type looks struct {
	at        int64 // Unix nanoseconds
	n, sum    uint64
	last      float64
	hasBefore bool
}

// mean gives the mean depth over the looks since the time before, of n looks that saw sum goroutines together until
// now. Where there was no look since, it is what it was; before the first look it is the present depth. A reader that
// several clients share asks for the looks of at least some time: a client that comes just after another is then told
// the mean over nearly the same looks, and not that of one look or two.
func (l *looks) mean(at int64, atLeast time.Duration, n, sum uint64, present float64) float64 {
	if n < l.n || sum < l.sum {
		*l = looks{} // the P is counted anew
	}
	switch {
	case n > l.n:
		l.last, l.hasBefore = float64(sum-l.sum)/float64(n-l.n), true
	case !l.hasBefore:
		return present
	}
	// Before the last time: the clock was set back.
	if l.at == 0 || at < l.at || at-l.at >= int64(atLeast) {
		l.at, l.n, l.sum = at, n, sum
	}
	return l.last
}
