package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/promql"
	"golang.org/x/sync/semaphore"
)

// The share of memory that queries have, and how long a query waits for its part of it.
const (
	queryShare = 3 // a third of the memory limit
	maxWaiting = 64
	maxWait    = 15 * time.Second
	checkEvery = 25 * time.Millisecond
)

// budget is the memory of all queries together. A query is estimated before it begins (estimate) and gets the smallest
// of four shares that will do; the engine stops it at that share (promql.EngineOpts.MaxSamples). Those for whom nothing
// is left wait in line.
type budget struct {
	total   int64 // samples
	limit   uint64
	sem     *semaphore.Weighted
	waiting atomic.Int64
	classes []class // from the smallest to the largest

	mu      sync.Mutex
	running map[*ticket]struct{}
	watched bool
}

// class is a share of the budget with an engine that keeps to it.
type class struct {
	samples int64
	engine  *promql.Engine
}

func newBudget(db Database, o *Options) *budget {
	b := &budget{total: o.MemoryLimit / queryShare / sampleBytes, limit: uint64(o.MemoryLimit),
		running: make(map[*ticket]struct{})}
	b.sem = semaphore.NewWeighted(b.total)
	for _, part := range []int64{8, 4, 2, 1} {
		samples := b.total / part
		e := promql.NewEngine(promql.EngineOpts{
			Logger:     o.Log,
			MaxSamples: int(samples),
			Timeout:    o.QueryTimeout,
			// An agent that was killed leaves no staleness marker: its last values must not be drawn on for five
			// minutes.
			LookbackDelta:            max(time.Minute, 4*db.CoarseInterval()),
			NoStepSubqueryIntervalFn: func(int64) int64 { return db.Interval().Milliseconds() },
			EnableAtModifier:         true,
			EnableNegativeOffset:     true,
			EnableQueryCost:          true,
		})
		// What is known of a series counts, too; the engine's samples don't include it.
		e.SetQueryLimits(uint64(samples/seriesSamples), 0, 0)
		b.classes = append(b.classes, class{samples, e})
	}
	return b
}

func (b *budget) close() (err error) {
	for _, c := range b.classes {
		err = errors.Join(err, c.engine.Close())
	}
	return err
}

// class gives the smallest share that holds so many samples, or the largest.
func (b *budget) class(samples int64) int {
	for i, c := range b.classes {
		if samples <= c.samples {
			return i
		}
	}
	return len(b.classes) - 1
}

// ticket is a query that has its share.
type ticket struct {
	b      *budget
	ctx    context.Context
	cancel context.CancelCauseFunc
	class  int
}

var (
	errBusy = fmt.Errorf("more than %d queries wait already: ask again later, or let the boards refresh less often",
		maxWaiting)
	errLine = fmt.Errorf("other queries took all of the memory for %v: ask again later, for fewer series, a shorter "+
		"range or a larger step", maxWait)
	errMemory = errors.New("the memory of the history is used up, so the largest query was stopped: ask for fewer " +
		"series, a shorter range or a larger step, or raise --memory-limit")
)

func tooLarge(samples float64, limit int64, fix string) error {
	return &failure{"execution", http.StatusUnprocessableEntity, fmt.Errorf(
		"this query would hold about %.3g values in memory, %d are allowed (a third of the memory limit): %s",
		samples, limit, fix)}
}

// admit waits for the share of a class.
func (b *budget) admit(ctx context.Context, class int) (*ticket, error) {
	if b.waiting.Add(1) > maxWaiting {
		b.waiting.Add(-1)
		return nil, &failure{"unavailable", http.StatusServiceUnavailable, errBusy}
	}
	line, stop := context.WithTimeout(ctx, maxWait)
	err := b.sem.Acquire(line, b.classes[class].samples)
	stop()
	b.waiting.Add(-1)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &failure{"unavailable", http.StatusServiceUnavailable, errLine}
	}
	t := &ticket{b: b, class: class}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running[t] = struct{}{}
	if !b.watched {
		b.watched = true
		go b.watch()
	}
	return t, nil
}

// done gives the share back.
func (t *ticket) done() {
	t.cancel(nil)
	t.b.mu.Lock()
	delete(t.b.running, t)
	t.b.mu.Unlock()
	t.b.sem.Release(t.b.classes[t.class].samples)
}

// why is the error of a query that was stopped, if it was stopped from here.
func (t *ticket) why(err error) error {
	if errors.Is(context.Cause(t.ctx), errMemory) {
		return &failure{"unavailable", http.StatusServiceUnavailable, errMemory}
	}
	return err
}

// watch reads the memory of the whole process while queries run. It stops the largest query when the memory passes the
// limit, which neither the estimate nor the engine's count has foreseen.
func (b *budget) watch() {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	use := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	for range tick.C {
		metrics.Read(use)
		over := use[0].Value.Uint64()-use[1].Value.Uint64() > b.limit+b.limit/20
		if b.stopLargest(over) {
			return
		}
	}
}

// stopLargest stops the largest query if memory is over the limit. ended: no query runs.
func (b *budget) stopLargest(over bool) (ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.running) == 0 {
		b.watched = false
		return true
	}
	if !over {
		return false
	}
	var largest *ticket
	for t := range b.running {
		if t.ctx.Err() == nil && (largest == nil || t.class > largest.class) {
			largest = t
		}
	}
	if largest != nil {
		largest.cancel(errMemory)
	}
	return false
}
