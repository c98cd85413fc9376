package target

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/ledger"
)

// RenewWords writes anew what would soon be too old to be told from what lies ahead of the tick now.
func (o *Target) RenewWords(now uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.ps {
		o.renew(p, now)
		ledger.RenewD(p.rec, now)
	}
}

// renew writes a P's word anew. The caller holds mu.
func (o *Target) renew(p *P, now uint64) {
	w := ledger.Word(atomic.LoadUint64(&p.rec.Word))
	if !ledger.NeedsRenewal(now, uint64(w)) {
		return
	}
	closed, ok := ledger.Swap(p.rec, w, now, w.Owner(), w.State(), w.Thread(), 0)
	if !ok {
		return
	}
	o.keep(p, closed[:]...)
	p.renewed = p.renewed.Renew(w, now)
}
