package collector

import (
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/target"
)

// TestRestingTarget: of a target that has little to do few snapshots are taken, and yet its counters are up to date
// whenever they are asked for, and as many depths of its queues are counted as of any other.
func TestRestingTarget(t *testing.T) {
	tg := start(t, "GOMAXPROCS=4")
	c, _ := collectIn(t, ModeEBPF, nil)
	seen(t, c, tg.cmd.Process.Pid)
	time.Sleep(2 * time.Second) // its start is over
	o, every := c.(*collect).all()[0], c.(*collect).o.SnapshotEvery
	depths := func() (n uint64) {
		o.Inspect(func(in target.Inside) { n = in.QueueLooks(0) })
		return n
	}
	ticks := func() (n uint64) {
		for _, p := range view(c, tg.cmd.Process.Pid).Ps {
			n += p.SchedTick + p.SyscallTick
		}
		return n
	}

	begun, counted, left := time.Now(), depths(), 0
	for range 5 {
		before := ticks()
		tg.say("nothing in particular") // it wakes to read this
		time.Sleep(every + 10*time.Millisecond)
		if after := ticks(); after == before {
			t.Errorf("it ran and no tick is counted after %d", before)
		}
		time.Sleep(600 * time.Millisecond)
		o.Inspect(func(in target.Inside) { left = max(left, in.SnapshotsLeftOut()) })
	}
	if left < 3 {
		t.Errorf("at most %d snapshots in a row were left out", left)
	}
	// Those of the last second are counted when it is over.
	got := float64(depths() - counted)
	most := time.Since(begun).Seconds() / every.Seconds()
	if got < most-9-8 || got > most+9+2 {
		t.Errorf("%v depths were counted in %.0f periods", got, most)
	}
}
