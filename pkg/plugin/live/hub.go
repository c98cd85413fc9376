// Package live turns an agent's Watch into rows of the frames that QueryData answered with. Streams that look at the
// same targets of the same agent share one Watch, however many panels and viewers there are.
package live

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// How a broken Watch is taken up again.
const (
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 10 * time.Second
)

// Snapshot is the state of an agent's targets at one moment, or why it is not known. It is not changed once published.
type Snapshot struct {
	At      time.Time
	Targets []TargetNow
	// Err says why nothing arrives at present; the Watch is being taken up again.
	Err error
}

// TargetNow is a target with the present totals of its Ps.
type TargetNow struct {
	Target     *pscopev1.Target
	Ps         []*pscopev1.PNow
	GlobalRunq int32 // below zero: not known
	// Global are the looks at the global run queue.
	Global looks
}

// Hub holds the Watches of one data source.
type Hub struct {
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	feeds map[feedKey]*feed
}

type feedKey struct {
	agent    *agent.Agent
	selector string
}

// feed is one Watch and those who follow it.
type feed struct {
	cancel    context.CancelFunc
	followers map[*Follower]struct{} // guarded by Hub.mu
	last      *Snapshot              // guarded by Hub.mu
}

// Follower receives the newest snapshot of one feed. Snapshots it is too slow for are replaced, never queued: their
// numbers are totals, so the next one says all that they said.
type Follower struct {
	C    <-chan *Snapshot
	c    chan *Snapshot
	hub  *Hub
	key  feedKey
	once sync.Once
}

// NewHub makes a hub whose Watches end with Close.
func NewHub() *Hub {
	ctx, cancel := context.WithCancel(context.Background())
	return &Hub{ctx: ctx, cancel: cancel, feeds: map[feedKey]*feed{}}
}

// Close ends all Watches and waits for them.
func (h *Hub) Close() {
	h.cancel()
	h.done.Wait()
}

// OnClose calls f when the hub closes, unless stop is called before.
func (h *Hub) OnClose(f func()) (stop func() bool) { return context.AfterFunc(h.ctx, f) }

// Follow joins the Watch of an agent's targets, starting it for the first follower.
func (h *Hub) Follow(a *agent.Agent, s *pscopev1.Selector) *Follower {
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		// A selector is made of checked strings and numbers; one that can't be marshalled would fail in Watch, too, and
		// be reported there.
		text = nil
	}
	key := feedKey{agent: a, selector: string(text)}
	c := make(chan *Snapshot, 1)
	f := &Follower{C: c, c: c, hub: h, key: key}
	h.mu.Lock()
	defer h.mu.Unlock()
	fd := h.feeds[key]
	if fd == nil {
		ctx, cancel := context.WithCancel(h.ctx)
		fd = &feed{cancel: cancel, followers: map[*Follower]struct{}{}}
		h.feeds[key] = fd
		h.done.Go(func() { h.run(ctx, fd, a, s) })
	}
	fd.followers[f] = struct{}{}
	if fd.last != nil {
		c <- fd.last
	}
	return f
}

// Leave ends the Watch when its last follower leaves.
func (f *Follower) Leave() {
	f.once.Do(func() {
		f.hub.mu.Lock()
		defer f.hub.mu.Unlock()
		fd := f.hub.feeds[f.key]
		if fd == nil {
			return
		}
		delete(fd.followers, f)
		if len(fd.followers) == 0 {
			fd.cancel()
			delete(f.hub.feeds, f.key)
		}
	})
}

// Feeds is the number of Watches that are open.
func (h *Hub) Feeds() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.feeds)
}

func (h *Hub) publish(fd *feed, s *Snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fd.last = s
	for f := range fd.followers {
		select {
		case <-f.c:
		default:
		}
		f.c <- s
	}
}

// run watches until ctx ends, taking the Watch up again whenever it breaks.
func (h *Hub) run(ctx context.Context, fd *feed, a *agent.Agent, s *pscopev1.Selector) {
	backoff := firstBackoff
	for ctx.Err() == nil {
		w := world{targets: map[targetKey]*TargetNow{}}
		err := a.Watch(ctx, &pscopev1.WatchRequest{Selector: s, RateHz: query.MaxRateHz},
			func(m *pscopev1.WatchResponse) bool {
				backoff = firstBackoff
				h.publish(fd, w.take(m))
				return true
			})
		if ctx.Err() != nil {
			return
		}
		h.publish(fd, &Snapshot{At: time.Now(), Err: err})
		// Spread over half the backoff, so that a fleet's viewers don't all come back at once.
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

type targetKey struct {
	pid     int32
	start   uint64
	runtime string
}

func keyOf(t *pscopev1.Target) targetKey {
	return targetKey{t.GetKey().GetPid(), t.GetKey().GetStartTime(), t.GetKey().GetRuntime()}
}

// world puts together what Watch says piece by piece: targets are described in full only when they are new or change.
type world struct{ targets map[targetKey]*TargetNow }

func (w *world) take(m *pscopev1.WatchResponse) *Snapshot {
	if m.GetResync() {
		clear(w.targets)
	}
	for _, u := range m.GetTargets() {
		t := u.GetTarget()
		key := keyOf(t)
		if u.GetEnded() {
			delete(w.targets, key)
			continue
		}
		now := &TargetNow{Target: t, Ps: u.GetPs(), GlobalRunq: u.GetGlobalRunqDepth(),
			Global: looks{u.GetGlobalRunqLooks(), u.GetGlobalRunqSum()}}
		if old := w.targets[key]; old != nil {
			if t.GetProcess() == "" {
				now.Target = old.Target
			}
			if len(now.Ps) == 0 {
				now.Ps = old.Ps
			}
		}
		w.targets[key] = now
	}
	s := &Snapshot{At: time.Unix(0, m.GetAtUnixNano()), Targets: make([]TargetNow, 0, len(w.targets))}
	for _, t := range w.targets {
		s.Targets = append(s.Targets, *t)
	}
	return s
}
