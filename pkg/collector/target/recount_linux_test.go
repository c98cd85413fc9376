package target

import (
	"testing"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
)

// A count of threads in uninterruptible sleep that no thread accounts for comes down after two looks, and what it has
// stood for stays counted.
func TestCountOfDWithoutThreadsIsCorrected(t *testing.T) {
	o := &Target{repaired: map[string]uint64{}, chunks: []uint16{1}}
	p := &P{rec: &kern.ScopeP_record{}}
	o.ps = []*P{p}
	slot := uint32(o.slot(0)) + 1
	ledger.EnterD(p.rec, 1000)
	ledger.EnterD(p.rec, 1500)
	one := map[uint32]uint64{slot: 1}
	o.recount(one, 2000)
	if n := p.rec.D_word >> ledger.SinceBits; n != 2 {
		t.Fatalf("after one look %d are counted, want both still", n)
	}
	o.recount(one, 3000)
	if n := p.rec.D_word >> ledger.SinceBits; n != 1 || p.rec.D_time != 0 {
		t.Fatalf("%d counted, %d ticks, want one and its time going on", n, p.rec.D_time)
	}
	o.recount(nil, 4000)
	o.recount(nil, 5000)
	if n := p.rec.D_word >> ledger.SinceBits; n != 0 || p.rec.D_time != 4000 {
		t.Errorf("%d counted, %d ticks, want none and 4000", n, p.rec.D_time)
	}
	if n := o.repaired["overcounted_uninterruptible"]; n != 2 {
		t.Errorf("%d repairs are counted, want 2", n)
	}
}
