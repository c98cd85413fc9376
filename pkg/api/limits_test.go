package api

import (
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// A rate so low that its period overflows is no busy loop.
func TestVeryLowRatesAreSlow(t *testing.T) {
	f := serve(t, nil)
	for _, hz := range []float64{1e-11, 5e-324, 0.1} {
		s, cancel := watch(t, f, &pb.WatchRequest{RateHz: hz})
		next(t, s)
		more := make(chan int)
		go func() {
			n := 0
			for s.Receive() {
				n++
			}
			more <- n
		}()
		time.Sleep(300 * time.Millisecond)
		cancel()
		// One may come at once: messages come at whole multiples of the period.
		if n := <-more; n > 1 {
			t.Errorf("%v Hz: %d messages in 0.3 s", hz, n)
		}
	}
}

func TestStreamsAreBounded(t *testing.T) {
	f := serve(t, nil)
	var close []context.CancelFunc
	capture := func() (*connect.ServerStreamForClient[pb.CaptureResponse], error) {
		ctx, cancel := context.WithCancel(t.Context())
		close = append(close, cancel)
		return f.client.Capture(ctx, connect.NewRequest(&pb.CaptureRequest{}))
	}
	for range maxCaptures {
		s, err := capture()
		if err != nil || !s.Receive() {
			t.Fatal(err, s.Err())
		}
	}
	s, err := capture()
	if err == nil {
		s.Receive()
		err = s.Err()
	}
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "close one") {
		t.Errorf("one capture more: %v", err)
	}
	for _, c := range close {
		c()
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if s, err := capture(); err == nil && s.Receive() {
			break
		}
		if time.Now().After(end) {
			t.Fatal("captures that were closed keep their places")
		}
	}
}

func TestCallsWaitTheirTurn(t *testing.T) {
	l := newLimits()
	for range maxCalls {
		if _, err := l.call(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, maxCallsWait)
	for range maxCallsWait {
		go func() {
			_, err := l.call(ctx)
			gone <- err
		}()
	}
	for end := time.Now().Add(10 * time.Second); l.waiting.Load() < maxCallsWait && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if _, err := l.call(t.Context()); connect.CodeOf(err) != connect.CodeResourceExhausted ||
		!strings.Contains(err.Error(), "later") {
		t.Errorf("beyond the line: %v", err)
	}
	cancel()
	for range maxCallsWait {
		if connect.CodeOf(<-gone) != connect.CodeCanceled {
			t.Error("who has gone away gets a turn")
		}
	}
}

func TestRowsOfAnAnswerAreBounded(t *testing.T) {
	for _, c := range []struct{ asked, ps, want int }{
		{0, 1, 2000}, {0, 8, 2000}, {1 << 30, 8, maxRows / 8}, {5, 8, 5}, {0, 1000, maxRows / 1000},
		{1 << 30, 1 << 20, minPerP}, {1 << 30, 0, maxRows},
	} {
		if got := perP(c.asked, c.ps); got != c.want {
			t.Errorf("asked for %d of %d Ps: %d, want %d", c.asked, c.ps, got, c.want)
		}
	}
}
