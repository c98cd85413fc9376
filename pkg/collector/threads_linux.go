package collector

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// readThreads brings the threads of every target up to date.
func (c *collect) readThreads() {
	if c.kernel == nil {
		return
	}
	byIndex := c.indexed()
	var stuck []stuckThread
	threads := make(map[uint32][]pstate.ThreadView, len(byIndex))
	// counted are the threads in uninterruptible sleep by the slot, plus one, of the P whose count they are in.
	counted := map[uint32]uint64{}
	now := ledger.Now()
	if c.heart.Beyond(now) {
		return
	}
	c.kernel.Threads.Each(func(tid uint32, th *kern.ScopeThread) {
		o := byIndex.at(th.Target)
		if o == nil || th.Tgid != uint32(o.PID()) {
			return
		}
		threads[th.Target] = append(threads[th.Target], c.threadView(tid, th, now))
		if th.D_slot != 0 {
			counted[th.D_slot]++
		}
		asleep := ledger.Word(th.Word).Thread() == pstate.Uninterruptible
		if th.D_slot == 0 && asleep && ledger.Elapsed(now, th.Word) > target.SettledAfter {
			stuck = append(stuck, stuckThread{o, tid, th.Word})
		}
	})
	c.shareThreads(func(o *target.Target) int { return len(threads[o.Index()]) })
	for i, o := range byIndex {
		if o == nil {
			continue
		}
		o.SetThreads(threads[uint32(i)], counted, now)
	}
	for _, s := range stuck {
		s.o.CountStuck(s.tid, s.word, now)
	}
}

// stuckThread is a thread that has been in uninterruptible sleep for a while and is in no P's count of such threads.
type stuckThread struct {
	o    *target.Target
	tid  uint32
	word uint64 // as it was read
}

func (c *collect) threadView(tid uint32, th *kern.ScopeThread, now uint64) pstate.ThreadView {
	w := ledger.Word(th.Word)
	v := pstate.ThreadView{
		TID: int32(tid), P: -1, State: w.Thread(),
		Since: c.clock.Unix(c.renewed[tid].SinceOf(th.Word, ledger.Since(now, th.Word))),
	}
	comm := unsafe.Slice((*byte)(unsafe.Pointer(&th.Comm[0])), len(th.Comm))
	v.Comm = cleantext.Name(unix.ByteSliceToString(comm), cleantext.MaxName)
	if s := th.LastSlot; s > 0 && int(s)-1 < len(c.kernel.Records) {
		v.P = int32(c.kernel.Records[s-1].Id)
	}
	for i, t := range th.Time {
		v.Time[i+1] = time.Duration(t) * ledger.Tick
	}
	v.Time[v.State] += time.Duration(ledger.Elapsed(now, th.Word)) * ledger.Tick
	return v
}

// sweepThreads removes the entries of threads whose target is gone: those that exited before their target was entered,
// and those of targets the agent gave up while they lived.
func (c *collect) sweepThreads() {
	if c.kernel == nil {
		return
	}
	byIndex := c.indexed()
	c.kernel.Threads.RemoveIf(func(th *kern.ScopeThread) bool {
		o := byIndex.at(th.Target)
		return o == nil || th.Tgid != uint32(o.PID())
	})
}
