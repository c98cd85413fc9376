package process

import (
	"testing"

	"github.com/p-scope/p-scope/pkg/goruntime/layout"
)

func TestAllIdle(t *testing.T) {
	p := arenaProcess()
	l := &p.bin.Layout
	healthyArena(l)
	sched := func(off int32) int { return 64 + int(off) }
	put32(sched(l.Sched.RunqSize), 3)
	look := func(what string, ps int, want bool) {
		t.Helper()
		if runq, got := p.AllIdle(ps); got != want || got && runq != 3 {
			t.Errorf("%s: %v, %d queued", what, got, runq)
		}
	}
	look("none is on the idle list", 2, false)
	put32(sched(l.Sched.NPIdle), 2)
	look("both are", 2, true)
	look("one more is known", 3, false)
	put32(32, 3)
	look("GOMAXPROCS has grown", 2, false)
	put32(32, 2)
	put32(sched(l.Sched.GCWaiting), 1)
	look("the world is being stopped", 2, false)

	nowhere := arenaProcess()
	nowhere.bin.Vars.Sched = 1 << 40
	if _, got := nowhere.AllIdle(2); got {
		t.Error("idle without memory")
	}
}

// TestQueueOfAnIdleP: what is on the idle list has no queue and is not asked for one; a P that is being handed over has
// the same status and may have one.
func TestQueueOfAnIdleP(t *testing.T) {
	p := arenaProcess()
	l := &p.bin.Layout
	healthyArena(l)
	put32(16<<10+int(l.P.Status), layout.StatusIdle)
	put(16<<10+int(l.P.M), 0)
	for _, c := range []struct {
		npidle uint32
		depth  int32
	}{{1, 0}, {0, 6}} {
		put32(64+int(l.Sched.NPIdle), c.npidle)
		var s Snapshot
		if err := p.Snapshot(&s, false); err != nil || s.Ps[0].RunqDepth != c.depth || s.Ps[1].RunqDepth != 6 {
			t.Errorf("%d on the list: %v, %+v", c.npidle, err, s.Ps)
		}
	}
}
