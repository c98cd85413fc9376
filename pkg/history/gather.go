//go:build linux

package history

import (
	"time"

	"github.com/p-scope/p-scope/pkg/metrics"
)

const (
	// maxSkew is how far the views of a state, or the state and its time, may be apart.
	maxSkew = 100 * time.Millisecond
	// maxGathers is how often views of one moment are tried to get.
	maxGathers = 3
)

// gathered gives a state and the time that it is stored under: the one it was due at, unless the agent had to wait for
// a CPU while it was gathered. Then it is that of the last view, or a state of 1.9 seconds would be stored as of one
// second. Views that are far apart, for the same reason, are gathered anew.
func gathered(due time.Time, gather func(now time.Time) metrics.Snapshot) (time.Time, metrics.Snapshot) {
	for try := 1; ; try++ {
		snap := gather(time.Now())
		var first, last int64
		for i := range snap.Views {
			at := snap.Views[i].At
			if i == 0 || at < first {
				first = at
			}
			last = max(last, at)
		}
		if last-first > int64(maxSkew) && try < maxGathers {
			continue
		}
		if late := time.Unix(0, last); late.Sub(due) > maxSkew {
			due = late
		}
		return due, snap
	}
}
