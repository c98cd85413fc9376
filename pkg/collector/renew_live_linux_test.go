package collector

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// A P that rests for hours, and a thread that is stuck for as long: time passes for them as for others, and since when
// is not forgotten.
func TestWordsThatDoNotChangeForHours(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, nil)
	p := start(t, "GOMAXPROCS=3")
	all, o := seenAs(t, c, p.cmd.Process.Pid)
	o.Inspect(func(in target.Inside) {
		rest := in.Records()[2]
		const step = uint64(30*60e9) >> ledger.TickShift
		begun := ledger.Now()
		w := ledger.Word(atomic.LoadUint64(&rest.Word))
		before, _ := ledger.Read(rest)
		var sum uint64
		for _, n := range before.Time {
			sum += n
		}
		if w.State() != pstate.Idle {
			t.Fatalf("P2 is %v", w.State())
		}
		since := ledger.Since(begun, uint64(w))
		rest.D_word = 1<<36 | begun&ledger.SinceMask
		d := rest.D_time
		// As if half an hour passed four times, which together is more than a word can tell.
		var at uint64
		for i := range uint64(4) {
			at = in.Renew(2, begun+(i+1)*step)
		}
		now := begun + 4*step
		after := ledger.ReadAt(rest, now)
		var got uint64
		for _, n := range after.Time {
			got += n
		}
		// 64 ms, for what passed between the two readings
		if off := int64(got - sum - 4*step); off < -1_000_000 || off > 1_000_000 {
			t.Errorf("two hours have passed and the states sum to %v more", time.Duration(got-sum)*ledger.Tick)
		}
		if n := rest.D_time - d; n != 4*step {
			t.Errorf("a thread was stuck for two hours, %v are counted", time.Duration(n)*ledger.Tick)
		}
		if at != since {
			t.Errorf("since %d is kept as %d", since, at)
		}
	})
	atomic.StoreUint32(&o.Entry().Active, 0)
	all.forget(o) // its clock is wrong now
}
