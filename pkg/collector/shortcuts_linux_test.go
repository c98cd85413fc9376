package collector

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// A P that its thread takes along when it leaves the CPU is known by its address alone, as soon as the probes tell of
// stops; both sides must agree on where it stands in the table.
func TestPsAreKnownByTheirAddress(t *testing.T) {
	for _, blind := range []bool{false, true} {
		t.Run(fmt.Sprintf("stops not seen %v", blind), func(t *testing.T) {
			c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.NoStops, o.CostBudget = blind, -1 })
			p := start(t, "GOMAXPROCS=3")
			seen(t, c, p.cmd.Process.Pid)
			// one more than there are CPUs on the smallest host: they take turns, and no P goes from one M to another
			p.say("busy 3")
			o := c.(*collect).all()[0]
			var records []*kern.ScopeP_record
			o.Inspect(func(in target.Inside) { records = in.Records() })
			read := func() (n int) {
				for _, r := range records {
					n += int(atomic.LoadUint32(&r.SchedtickStale))
				}
				return n
			}
			if !blind {
				waitFor(t, "a P is recognized", func() bool { return read() > 0 })
				return
			}
			time.Sleep(2 * time.Second)
			for _, r := range records {
				atomic.StoreUint32(&r.SchedtickStale, 0)
			}
			time.Sleep(2 * time.Second)
			if n := read(); n > 0 {
				t.Errorf("%d Ps were taken for not halted, though no stop is seen", n)
			}
		})
	}
}

// Outside of a GC nobody looks whether a goroutine is one of its workers. The GC after a long pause must be seen all
// the same, about as long as the runtime counts it.
func TestWorkersAfterALongPause(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.CostBudget = -1 })
	p := start(t, "GOMAXPROCS=2", "GOGC=off")
	pid := p.cmd.Process.Pid
	seen(t, c, pid)
	p.say("heap 3000000")
	o := c.(*collect).all()[0]
	p.say("gc 1") // from its end on the kernel side knows that there is none
	waitFor(t, "the GC is over and forgotten",
		func() bool { return ledger.Now() > atomic.LoadUint64(&o.Entry().MarkingUntil) })
	before, worked := gcTime(c, pid), p.worked()
	p.say("gc 8")
	time.Sleep(100 * time.Millisecond)
	got, want := gcTime(c, pid)-before, p.worked()-worked
	t.Logf("workers ran for %v, the runtime says %v", got, want)
	if want < 200*time.Millisecond {
		t.Fatalf("the GC took only %v: nothing can be compared", want)
	}
	if (got - want).Abs() > want/2 { // the samples tell, a hundred a second
		t.Errorf("workers ran for %v, the runtime says %v", got, want)
	}
}

// gcTime is P-Scope's account of how long Ps were in a GC worker.
func gcTime(c Collector, pid int) (d time.Duration) {
	v := view(c, pid)
	for i := range v.Ps {
		d += v.Ps[i].StateTime(pstate.GC)
	}
	return d
}

// worked is the runtime's own account of the same.
func (c *child) worked() time.Duration {
	var seconds float64
	if _, err := fmt.Sscanf(c.say("worked"), "worked %g", &seconds); err != nil {
		c.t.Fatal(err)
	}
	return time.Duration(seconds * float64(time.Second))
}
