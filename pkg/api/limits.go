package api

import (
	"context"
	"fmt"
	"sync/atomic"

	"connectrpc.com/connect"
)

// What all viewers together may have at once. A stream holds one message and what resumes remembers of it; a call for
// intervals holds its answer.
const (
	maxWatches   = 128
	maxCaptures  = 8
	maxCalls     = 4       // Intervals, Stops and Diagnose being answered
	maxCallsWait = 64      // and waiting for that
	maxRows      = 400_000 // intervals in one answer, some 80 bytes each
	minPerP      = 16      // intervals of each P, however many Ps there are
	endedPs      = 64
	maxStops     = 50_000 // stops in one answer
	captureNews  = 64 << 10
)

// limits counts streams and calls.
type limits struct {
	watches, captures, waiting atomic.Int64
	calls                      chan struct{}
}

func newLimits() *limits { return &limits{calls: make(chan struct{}, maxCalls)} }

// stream takes a place among the streams of a kind; left gives it back.
func stream(count *atomic.Int64, most int64, what string) (left func(), err error) {
	if count.Add(1) > most {
		count.Add(-1)
		return nil, connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("%d streams of %s are open, as many as this agent serves: close one, or share one between "+
				"viewers", most, what))
	}
	return func() { count.Add(-1) }, nil
}

// call waits for its turn among the calls that build large answers; done ends it.
func (l *limits) call(ctx context.Context) (done func(), err error) {
	if l.waiting.Add(1) > maxCallsWait {
		l.waiting.Add(-1)
		return nil, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("%d calls wait already: ask again later",
			maxCallsWait))
	}
	defer l.waiting.Add(-1)
	select {
	case l.calls <- struct{}{}:
		return func() { <-l.calls }, nil
	case <-ctx.Done():
		return nil, connect.NewError(connect.CodeCanceled, ctx.Err())
	}
}

// perP bounds the intervals of each P so that an answer about ps Ps has at most maxRows; asked: 0 is the default.
func perP(asked, ps int) int {
	if asked == 0 {
		asked = defaultIntervalsPer
	}
	return min(asked, max(maxRows/max(ps, 1), minPerP))
}
