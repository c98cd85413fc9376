package collector

import (
	"errors"
	"math/bits"
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// threadTable is the table of threads of bpf/threads.h, which the kernel side and the agent share: sets of threadWays
// places, the set by the low bits of the tid. The methods may be called at any time, also while the kernel side adds
// and removes threads.
type threadTable struct {
	sets    []kern.ScopeThreadSet
	entries []kern.ScopeThread // of set i from i * threadWays on
}

const (
	threadWays     = len(kern.ScopeThreadSet{}.Key)
	threadEntering = uint32(1) << kern.ScopeThreadKeyTHREAD_ENTERING_BIT
)

var (
	errThreadKnown = errors.New("the thread is in the table")
	errThreadsFull = errors.New("the thread's set in the table is full")
)

// threadSets is how many sets a table for n threads has: twice the room, because tids don't spread evenly, in a power
// of two.
func threadSets(n int) uint32 {
	need := (2*n + threadWays - 1) / threadWays
	return 1 << bits.Len(uint(max(need, 1)-1))
}

func (t *threadTable) set(tid uint32) (set *kern.ScopeThreadSet, first int) {
	i := int(tid) & (len(t.sets) - 1)
	return &t.sets[i], i * threadWays
}

// find gives a thread's entry, which is shared with the kernel side; nil if there is none.
func (t *threadTable) find(tid uint32) *kern.ScopeThread {
	if tid == 0 {
		return nil
	}
	set, first := t.set(tid)
	for i := range set.Key {
		if atomic.LoadUint32(&set.Key[i]) == tid {
			return &t.entries[first+i]
		}
	}
	return nil
}

// add enters a thread. The error is errThreadKnown or errThreadsFull.
func (t *threadTable) add(tid uint32, th *kern.ScopeThread) error {
	if t.find(tid) != nil {
		return errThreadKnown
	}
	set, first := t.set(tid)
	way := 0
	for way < threadWays && !atomic.CompareAndSwapUint32(&set.Key[way], 0, tid|threadEntering) {
		way++
	}
	if way == threadWays {
		return errThreadsFull
	}
	for i := range set.Key {
		if i != way && atomic.LoadUint32(&set.Key[i])&^threadEntering == tid {
			atomic.StoreUint32(&set.Key[way], 0)
			return errThreadKnown
		}
	}
	t.entries[first+way] = *th
	atomic.StoreUint32(&set.Key[way], tid)
	return nil
}

// remove deletes a thread's entry, if there is one.
func (t *threadTable) remove(tid uint32) {
	set, _ := t.set(tid)
	for i := range set.Key {
		if tid != 0 && atomic.CompareAndSwapUint32(&set.Key[i], tid, 0) {
			return
		}
	}
}

// each calls fn with every thread and a copy of its entry.
func (t *threadTable) each(fn func(tid uint32, th *kern.ScopeThread)) {
	for i := range t.sets {
		for way := range t.sets[i].Key {
			tid := atomic.LoadUint32(&t.sets[i].Key[way])
			if tid == 0 || tid&threadEntering != 0 {
				continue
			}
			th := t.entries[i*threadWays+way]
			if th.Tid == tid { // else another thread has just been given its place
				fn(tid, &th)
			}
		}
	}
}

// removeIf deletes the entries that a function chooses.
func (t *threadTable) removeIf(which func(th *kern.ScopeThread) bool) {
	t.each(func(tid uint32, th *kern.ScopeThread) {
		if which(th) {
			t.remove(tid)
		}
	})
}
