package collector

import (
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
)

// renewWords writes anew what would soon be too old to be told from what lies ahead.
func (c *collect) renewWords() {
	now := ledger.Now()
	if c.heart.Beyond(now) {
		return
	}
	for _, o := range c.all() {
		o.RenewWords(now)
	}
	if c.kernel == nil {
		return
	}
	kept := make(map[uint32]ledger.Renewed)
	c.kernel.Threads.Each(func(tid uint32, th *kern.ScopeThread) {
		was, ok := c.renewed[tid]
		if ok && was.Word == th.Word {
			kept[tid] = was
		}
		if !ledger.NeedsRenewal(now, th.Word) {
			return
		}
		next := was.Renew(ledger.Word(th.Word), now)
		entry := c.kernel.Threads.Find(tid)
		if entry == nil || !atomic.CompareAndSwapUint64(&entry.Word, th.Word, next.Word) {
			return // it has just been woken
		}
		ledger.AddThreadTime(entry, ledger.Word(th.Word).Thread(), ledger.Elapsed(now, th.Word))
		kept[tid] = next
	})
	c.renewed = kept
}
