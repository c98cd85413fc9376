package collector

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// A word's since has 36 bits, 73 minutes of ticks, and what lies more than half of that back is taken to lie ahead. So words that have not changed for a while are written
// anew, with the time that has passed added to the totals. What they said is kept for those who ask since when.
const renewAfter = uint64(600e9) >> tickShift // ten minutes

// renewed is a word that was written anew, and since when it has really been so.
type renewed struct{ word, since uint64 }

// of gives since when a word has been so, if this is the one that was written.
func (r renewed) of(word, since uint64) uint64 {
	if r.word == word && r.word != 0 {
		return r.since
	}
	return since
}

// renewWords writes anew what would soon be too old to be told from what lies ahead.
func (c *collect) renewWords() {
	now := nowTick()
	if c.heart.beyond(now) {
		return
	}
	for _, o := range c.all() {
		o.mu.Lock()
		for _, p := range o.ps {
			o.renew(p, now)
			renewD(p.rec, now)
		}
		o.mu.Unlock()
	}
	if c.kernel == nil {
		return
	}
	kept := make(map[uint32]renewed)
	c.kernel.threads.each(func(tid uint32, th *kern.ScopeThread) {
		was, ok := c.renewed[tid]
		if ok && was.word == th.Word {
			kept[tid] = was
		}
		gone := elapsed(now, th.Word)
		if gone < renewAfter {
			return
		}
		w := word(th.Word)
		next := uint64(wordOf(now, w.owner(), w.state(), w.thread()))
		entry := c.kernel.threads.find(tid)
		if entry == nil || !atomic.CompareAndSwapUint64(&entry.Word, th.Word, next) {
			return // it has just been woken
		}
		addThreadTime(entry, w.thread(), gone)
		kept[tid] = renewed{next, was.of(th.Word, sinceTick(now, th.Word))}
	})
	c.renewed = kept
}

// renew writes a P's word anew. The caller holds mu.
func (o *observed) renew(p *observedP, now uint64) {
	w := word(atomic.LoadUint64(&p.rec.Word))
	if elapsed(now, uint64(w)) < renewAfter {
		return
	}
	closed, ok := swap(p.rec, w, now, w.owner(), w.state(), w.thread(), 0)
	if !ok {
		return
	}
	o.keep(p, closed[:]...)
	p.renewed = renewed{uint64(wordOf(now, w.owner(), w.state(), w.thread())), p.renewed.of(uint64(w), sinceTick(now, uint64(w)))}
}

// renewD writes a P's count of threads in uninterruptible sleep anew.
func renewD(r *kern.ScopeP_record, now uint64) {
	d := atomic.LoadUint64(&r.D_word)
	gone := elapsed(now, d)
	if d>>36 == 0 || gone < renewAfter {
		return
	}
	if atomic.CompareAndSwapUint64(&r.D_word, d, d&^sinceMask|now&sinceMask) {
		atomic.AddUint64(&r.D_time, gone)
	}
}
