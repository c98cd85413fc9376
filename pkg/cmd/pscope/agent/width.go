//go:build linux

package agent

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	widest   = 2               // Ps of the agent while somebody asks it something
	widthFor = 2 * time.Second // after the last answer
)

// width is how many Ps the agent has: one, as long as nobody asks anything. Each time a timer makes something due, a
// runtime that has a second P wakes a thread for it that looks for work and finds none (runtime/proc.go, wakep): a
// tenth to a seventh of what the agent needs. While requests are answered there are two, so that neither they nor the
// snapshots wait for the other. A change stops the agent's own world, after a garbage collection that is going on, so
// no request waits for it.
type width struct {
	most  int
	set   func(n int) int // runtime.GOMAXPROCS
	hold  time.Duration
	asked atomic.Int64 // requests being answered

	mu     sync.Mutex // guards what follows
	now    int
	ended  time.Time // the last answer
	narrow *time.Timer
}

// newWidth makes the agent narrow; nil if the environment's GOMAXPROCS says how many Ps it has.
func newWidth() *width {
	if os.Getenv("GOMAXPROCS") != "" {
		return nil
	}
	w := &width{most: min(widest, runtime.NumCPU()), set: runtime.GOMAXPROCS, hold: widthFor}
	w.adjust()
	return w
}

// attend is called when a request begins, and what it gives when it has been answered.
func (w *width) attend() (answered func()) {
	if w == nil {
		return func() {}
	}
	if w.asked.Add(1) == 1 {
		go w.adjust()
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = time.Now()
		if w.asked.Add(-1) > 0 {
			return
		}
		if w.narrow == nil {
			w.narrow = time.AfterFunc(w.hold, w.adjust)
		} else {
			w.narrow.Reset(w.hold)
		}
	}
}

// adjust gives the agent the Ps that it needs now.
func (w *width) adjust() {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 1
	if w.asked.Load() > 0 || time.Since(w.ended) < w.hold {
		n = w.most
	}
	if n != w.now {
		w.set(n)
		w.now = n
	}
}
