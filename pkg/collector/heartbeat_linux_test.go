package collector

import (
	"context"
	"testing"
	"time"
)

// TestLastRoundStandsStillWithTheLoop holds a lock that the loop needs, as anything that hangs would.
func TestLastRoundStandsStillWithTheLoop(t *testing.T) {
	col, err := New(Options{Mode: ModeAuto})
	if err != nil {
		t.Fatal(err)
	}
	c := col.(*collect)
	if c.kernel == nil {
		t.Skip("the lock that is held is of the kernel side, which can't be had here: ", c.info.snapshotReason())
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	goesRound := func(within time.Duration) bool {
		begun := time.Now()
		for time.Since(begun) < within {
			if c.LastRound().After(begun) {
				return true
			}
			time.Sleep(10 * time.Millisecond)
		}
		return false
	}
	if !goesRound(20 * time.Second) {
		t.Error("the loop goes round and LastRound doesn't tell")
	}
	c.drainMu.Lock()
	time.Sleep(2 * maxLull) // it comes to the lock
	if goesRound(5 * maxLull) {
		t.Error("the loop stands still and LastRound goes on")
	}
	c.drainMu.Unlock()
	if !goesRound(20 * time.Second) {
		t.Error("the loop goes on and LastRound doesn't tell")
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
