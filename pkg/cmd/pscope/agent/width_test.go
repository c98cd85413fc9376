//go:build linux

package agent

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestWidthFollowsRequests(t *testing.T) {
	var procs atomic.Int64
	w := &width{most: 2, hold: 100 * time.Millisecond, set: func(n int) int { return int(procs.Swap(int64(n))) }}
	wait := func(n int64) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); procs.Load() != n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d Ps, want %d", procs.Load(), n)
			}
		}
	}
	w.adjust()
	wait(1)
	first, second := w.attend(), w.attend()
	wait(2)
	first()
	time.Sleep(3 * w.hold)
	if n := procs.Load(); n != 2 {
		t.Errorf("%d Ps while a request is being answered", n)
	}
	second()
	wait(1)
	again := w.attend()
	wait(2)
	again()
	wait(1)
}

func TestWidthIsTheEnvironmentsWhereThatSays(t *testing.T) {
	t.Setenv("GOMAXPROCS", "3")
	w := newWidth()
	if w != nil {
		t.Error("the environment's GOMAXPROCS is overruled")
	}
	w.attend()()
}
