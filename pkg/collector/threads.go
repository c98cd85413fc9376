package collector

import (
	"errors"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// threadBatch is how many entries of the thread table one system call brings.
const threadBatch = 1024

// eachThread calls fn for every entry of the thread table.
func (k *kernelSide) eachThread(fn func(tid uint32, th *kern.ScopeThread)) error {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]uint32, threadBatch), make([]kern.ScopeThread, threadBatch)
	for {
		n, err := k.objs.Threads.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			fn(keys[i], &values[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil // that was the last batch
		}
		if err != nil {
			return err
		}
	}
}

// threadEntry reads one entry of the thread table.
func (k *kernelSide) threadEntry(tid uint32) (th kern.ScopeThread, ok bool) {
	err := k.objs.Threads.Lookup(tid, &th)
	return th, err == nil
}

// readThreads brings the threads of every target up to date.
func (c *collect) readThreads() {
	if c.kernel == nil {
		return
	}
	byIndex := c.indexed()
	threads := make(map[uint32][]pstate.ThreadView, len(byIndex))
	now := nowTick()
	err := c.kernel.eachThread(func(tid uint32, th *kern.ScopeThread) {
		o := byIndex[th.Target]
		if o == nil || th.Tgid != uint32(o.info.PID) {
			return
		}
		threads[th.Target] = append(threads[th.Target], c.threadView(tid, th, now))
	})
	if err != nil {
		c.o.Log.Warn("read the thread table", "err", err)
		return
	}
	for i, o := range byIndex {
		o.mu.Lock()
		o.threads = threads[i]
		o.mu.Unlock()
	}
}

func (c *collect) threadView(tid uint32, th *kern.ScopeThread, now uint64) pstate.ThreadView {
	w := word(th.Word)
	v := pstate.ThreadView{
		TID: int32(tid), P: -1, State: w.thread(), Since: c.clock.unix(sinceTick(now, th.Word)),
		Comm: unix.ByteSliceToString(unsafe.Slice((*byte)(unsafe.Pointer(&th.Comm[0])), len(th.Comm))),
	}
	if s := th.LastSlot; s > 0 && int(s)-1 < len(c.kernel.records) {
		v.P = int32(c.kernel.records[s-1].Id)
	}
	for i, t := range th.Time {
		v.Time[i] = time.Duration(t) * tick
	}
	v.Time[v.State] += time.Duration(elapsed(now, th.Word)) * tick
	return v
}

// sweepThreads removes the entries of threads whose target is gone: those that exited before their target was entered, and those of
// targets the agent gave up while they lived.
func (c *collect) sweepThreads() {
	if c.kernel == nil {
		return
	}
	byIndex := c.indexed()
	var dead []uint32
	_ = c.kernel.eachThread(func(tid uint32, th *kern.ScopeThread) {
		if o := byIndex[th.Target]; o == nil || th.Tgid != uint32(o.info.PID) {
			dead = append(dead, tid)
		}
	})
	for _, tid := range dead {
		_ = c.kernel.objs.Threads.Delete(tid)
	}
}
