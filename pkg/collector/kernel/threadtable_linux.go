package kernel

import (
	"errors"
	"math/bits"
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// ThreadTable is the table of threads of bpf/threads.h, which the kernel side and the agent share: sets of threadWays
// places, the set by the low bits of the tid. The methods may be called at any time, also while the kernel side adds
// and removes threads.
type ThreadTable struct {
	sets    []kern.ScopeThreadSet
	entries []kern.ScopeThread // of set i from i * threadWays on
}

const (
	threadWays     = len(kern.ScopeThreadSet{}.Key)
	threadEntering = uint32(1) << kern.ScopeThreadKeyTHREAD_ENTERING_BIT
)

var (
	ErrThreadKnown = errors.New("the thread is in the table")
	errThreadsFull = errors.New("the thread's set in the table is full")
)

// threadSets is how many sets a table for n threads has: twice the room, because tids don't spread evenly, in a power
// of two.
func threadSets(n int) uint32 {
	need := (2*n + threadWays - 1) / threadWays
	return 1 << bits.Len(uint(max(need, 1)-1))
}

// Size is how many threads it has room for.
func (t *ThreadTable) Size() int { return len(t.entries) }

func (t *ThreadTable) set(tid uint32) (set *kern.ScopeThreadSet, first int) {
	i := int(tid) & (len(t.sets) - 1)
	return &t.sets[i], i * threadWays
}

// Find gives a thread's entry, which is shared with the kernel side; nil if there is none.
func (t *ThreadTable) Find(tid uint32) *kern.ScopeThread {
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

// Add enters a thread. The error is errThreadKnown or errThreadsFull.
func (t *ThreadTable) Add(tid uint32, th *kern.ScopeThread) error {
	if t.Find(tid) != nil {
		return ErrThreadKnown
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
			return ErrThreadKnown
		}
	}
	t.entries[first+way] = *th
	atomic.StoreUint32(&set.Key[way], tid)
	return nil
}

// Remove deletes a thread's entry, if there is one.
func (t *ThreadTable) Remove(tid uint32) {
	set, _ := t.set(tid)
	for i := range set.Key {
		if tid != 0 && atomic.CompareAndSwapUint32(&set.Key[i], tid, 0) {
			return
		}
	}
}

// Each calls fn with every thread and a copy of its entry.
func (t *ThreadTable) Each(fn func(tid uint32, th *kern.ScopeThread)) {
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

// RemoveIf deletes the entries that a function chooses.
func (t *ThreadTable) RemoveIf(which func(th *kern.ScopeThread) bool) {
	t.Each(func(tid uint32, th *kern.ScopeThread) {
		if which(th) {
			t.Remove(tid)
		}
	})
}
