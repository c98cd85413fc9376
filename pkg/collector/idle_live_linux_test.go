package collector

import (
	"testing"
	"time"
)

// TestRestingTarget: of a target that has little to do few snapshots are taken, and yet its counters are up to date
// whenever they are asked for, and as many depths of its queues are counted as of any other.
func TestRestingTarget(t *testing.T) {
	tg := start(t, "GOMAXPROCS=4")
	c, _ := collectIn(t, ModeEBPF, nil)
	seen(t, c, tg.cmd.Process.Pid)
	time.Sleep(2 * time.Second) // its start is over
	o := c.(*collect).all()[0]
	depths := func() (n uint64) {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, m := range o.ps[0].runqHist {
			n += m
		}
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
		time.Sleep(o.env.snapshotEvery + 10*time.Millisecond)
		if after := ticks(); after == before {
			t.Errorf("it ran and no tick is counted after %d", before)
		}
		time.Sleep(600 * time.Millisecond)
		o.mu.Lock()
		left = max(left, o.idle.Skipped)
		o.mu.Unlock()
	}
	if left < 3 {
		t.Errorf("at most %d snapshots in a row were left out", left)
	}
	// Those of the last second are counted when it is over.
	got := float64(depths() - counted)
	most := time.Since(begun).Seconds() / o.env.snapshotEvery.Seconds()
	if got < most-9-8 || got > most+9+2 {
		t.Errorf("%v depths were counted in %.0f periods", got, most)
	}
}
