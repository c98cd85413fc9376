package collector

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// A P that rests for hours, and a thread that is stuck for as long: time passes for them as for others, and since when
// is not forgotten.
func TestWordsThatDoNotChangeForHours(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, nil)
	p := start(t, "GOMAXPROCS=3")
	all, o := seenAs(t, c, p.cmd.Process.Pid)
	o.mu.Lock()
	rest := o.ps[2]
	const step = uint64(30*60e9) >> ledger.TickShift
	begun := ledger.Now()
	w := ledger.Word(atomic.LoadUint64(&rest.rec.Word))
	before, _ := ledger.Read(rest.rec)
	var sum uint64
	for _, n := range before.Time {
		sum += n
	}
	if w.State() != pstate.Idle {
		t.Fatalf("P2 is %v", w.State())
	}
	since := ledger.Since(begun, uint64(w))
	rest.rec.D_word = 1<<36 | begun&ledger.SinceMask
	d := rest.rec.D_time
	// As if half an hour passed four times, which together is more than a word can tell.
	for i := range uint64(4) {
		o.renew(rest, begun+(i+1)*step)
		ledger.RenewD(rest.rec, begun+(i+1)*step)
	}
	now := begun + 4*step
	after := ledger.ReadAt(rest.rec, now)
	var got uint64
	for _, n := range after.Time {
		got += n
	}
	if off := int64(got - sum - 4*step); off < -1_000_000 || off > 1_000_000 { // 64 ms, for what passed between the two readings
		t.Errorf("two hours have passed and the states sum to %v more", time.Duration(got-sum)*ledger.Tick)
	}
	if n := rest.rec.D_time - d; n != 4*step {
		t.Errorf("a thread was stuck for two hours, %v are counted", time.Duration(n)*ledger.Tick)
	}
	if at := rest.renewed.SinceOf(rest.rec.Word, 0); at != since {
		t.Errorf("since %d is kept as %d", since, at)
	}
	o.mu.Unlock()
	atomic.StoreUint32(&o.shared.Active, 0)
	all.forget(o) // its clock is wrong now
}
