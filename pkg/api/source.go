package api

import (
	"context"
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/agentinfo"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Collector is the part of collector.Collector that the server reads.
type Collector interface {
	Views(now time.Time) []pstate.TargetView
	Targets() []pstate.Target
	Agent() agentinfo.Info
	LastRound() time.Time
}

// sample is what every viewer of one moment shares. It is never changed once made.
type sample struct {
	at    time.Time
	views []pstate.TargetView
	byKey map[pstate.Key]*pstate.TargetView
}

// sampler makes samples no more often than its fastest viewer needs: a second viewer gets the first one's.
type sampler struct {
	from Collector

	mu   sync.Mutex
	last *sample
}

// get gives a sample not older than maxAge.
func (s *sampler) get(maxAge time.Duration) *sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.last != nil && now.Sub(s.last.at) <= maxAge {
		return s.last
	}
	views := s.from.Views(now)
	n := &sample{at: now, views: views, byKey: make(map[pstate.Key]*pstate.TargetView, len(views))}
	for i := range views {
		n.byKey[views[i].Key] = &views[i]
	}
	s.last = n
	return n
}

// ticker fires at whole multiples of the period of the wall clock, so that viewers of one rate share samples. It skips
// what its reader was too slow for.
type ticker struct{ period time.Duration }

func (t ticker) wait(ctx context.Context, closing <-chan struct{}) bool {
	now := time.Now()
	timer := time.NewTimer(now.Truncate(t.period).Add(t.period).Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-closing:
	}
	return false
}
