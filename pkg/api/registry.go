package api

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// registry knows every target that lives or of which the ring still holds something.
type registry struct {
	collector Collector
	timeline  *timeline.Store

	mu    sync.Mutex
	known map[pstate.Key]known
}

// known is a target and when it ended (Unix nanoseconds; 0: it lives).
type known struct {
	pstate.Target
	ended int64
}

func newRegistry(c Collector, t *timeline.Store) *registry {
	return &registry{collector: c, timeline: t, known: make(map[pstate.Key]known)}
}

// refresh brings the registry up to now and gives everything in it, by pid and start.
func (r *registry) refresh(now time.Time) []known {
	targets := r.collector.Targets()
	held := r.timeline.Held()
	r.mu.Lock()
	defer r.mu.Unlock()
	live := make(map[pstate.Key]bool, len(targets))
	for _, t := range targets {
		live[t.Key] = true
		r.known[t.Key] = known{Target: t}
	}
	for k, t := range r.known {
		ended, ok := held[k]
		switch {
		case live[k]:
		case !ok:
			delete(r.known, k)
		case t.ended == 0:
			if ended == 0 {
				ended = now.UnixNano()
			}
			t.ended = ended
			r.known[k] = t
		}
	}
	all := make([]known, 0, len(r.known))
	for _, t := range r.known {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b known) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.StartTime, b.StartTime),
			cmp.Compare(a.Runtime, b.Runtime))
	})
	return all
}
