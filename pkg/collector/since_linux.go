package collector

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// renewWords writes anew what would soon be too old to be told from what lies ahead.
func (c *collect) renewWords() {
	now := nowTick()
	if c.heart.beyond(now) {
		return
	}
	for _, o := range c.all() {
		o.renewWords(now)
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
		if !needsRenewal(now, th.Word) {
			return
		}
		next := was.renew(word(th.Word), now)
		entry := c.kernel.threads.find(tid)
		if entry == nil || !atomic.CompareAndSwapUint64(&entry.Word, th.Word, next.word) {
			return // it has just been woken
		}
		addThreadTime(entry, word(th.Word).thread(), elapsed(now, th.Word))
		kept[tid] = next
	})
	c.renewed = kept
}
