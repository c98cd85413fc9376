package collector

import "sync/atomic"

// renewWords writes anew what would soon be too old to be told from what lies ahead of the tick now.
func (o *observed) renewWords(now uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.ps {
		o.renew(p, now)
		renewD(p.rec, now)
	}
}

// renew writes a P's word anew. The caller holds mu.
func (o *observed) renew(p *observedP, now uint64) {
	w := word(atomic.LoadUint64(&p.rec.Word))
	if !needsRenewal(now, uint64(w)) {
		return
	}
	closed, ok := swap(p.rec, w, now, w.owner(), w.state(), w.thread(), 0)
	if !ok {
		return
	}
	o.keep(p, closed[:]...)
	p.renewed = p.renewed.renew(w, now)
}
