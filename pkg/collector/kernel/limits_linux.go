package kernel

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	gorefusal "github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

const (
	attachesAtOnce = 16  // targets to which probes of tier 1 are attached at the same time
	detachesAtOnce = 256 // probes that are taken out at the same time: those share the kernel's grace periods
	windowsAtOnce  = 4   // targets that have the probe of tier 2 at the same time
)

// Limits are how many targets at once do what weighs on the host.
type Limits struct {
	Attaching chan struct{}  // an entry for each target to which the probes of tier 1 are being attached
	detaching chan struct{}  // an entry for each probe that is being taken out
	Windows   chan struct{}  // of tier 2: an entry for each that is open
	Hung      *atomic.Uint64 // calls for a file that were given up, because it did not answer
}

// NewLimits are those of an agent; hung counts what was given up.
func NewLimits(hung *atomic.Uint64) Limits {
	return Limits{
		Attaching: make(chan struct{}, attachesAtOnce), detaching: make(chan struct{}, detachesAtOnce),
		Windows: make(chan struct{}, windowsAtOnce), Hung: hung,
	}
}

// Detach takes probes out of a target's code. For each the kernel waits until no task can be in its program any more:
// a grace period of Tasks Trace RCU (kernel/events/uprobes.c, uprobe_unregister_sync), tens of milliseconds at best and
// half a second on a busy machine, in uninterruptible sleep. Those who wait at the same time share it, and so the
// probes are not taken out one after the other.
func (l *Limits) Detach(links []io.Closer) {
	var wg sync.WaitGroup
	for _, probe := range links {
		wg.Go(func() {
			l.detaching <- struct{}{}
			_ = probe.Close()
			<-l.detaching
		})
	}
	wg.Wait()
}

// AnswerWithin is for how long a file may take to answer.
const AnswerWithin = 5 * time.Second

// GiveUpAfter does something that may wait in the kernel for a file that does not answer, aside, and gives it up after
// a while, which hung counts. What comes of it later goes to late.
func GiveUpAfter[T any](hung *atomic.Uint64, limit time.Duration, do func() (T, error), late func(T)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	done, left := make(chan outcome), make(chan struct{})
	go func() {
		v, err := do()
		select {
		case done <- outcome{v, err}:
		case <-left:
			late(v)
		}
	}()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case o := <-done:
		return o.v, o.err
	case <-timeout.C:
		close(left)
		hung.Add(1)
		var none T
		return none, gorefusal.New(gorefusal.NoAnswer, nil, "the program's file did not answer within %v", limit)
	}
}
