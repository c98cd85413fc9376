package kernel

import (
	"errors"
	"testing"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

func newThreadTable(threads int) *ThreadTable {
	n := threadSets(threads)
	return &ThreadTable{make([]kern.ScopeThreadSet, n), make([]kern.ScopeThread, int(n)*threadWays)}
}

func TestThreadTableHasRoomForTwice(t *testing.T) {
	for threads, want := range map[int]uint32{0: 1, 1: 1, 4: 1, 5: 2, 8: 2, 16: 4, 17: 8, 16384: 4096} {
		if n := threadSets(threads); n != want {
			t.Errorf("%d threads get %d sets, want %d", threads, n, want)
		}
	}
}

func TestThreadTable(t *testing.T) {
	table := newThreadTable(4) // one set
	for tid := uint32(1); tid <= uint32(threadWays); tid++ {
		if err := table.Add(tid, &kern.ScopeThread{Tid: tid, Target: tid % 2}); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Add(3, &kern.ScopeThread{}); !errors.Is(err, ErrThreadKnown) {
		t.Errorf("a thread that is there: %v", err)
	}
	if err := table.Add(99, &kern.ScopeThread{}); !errors.Is(err, errThreadsFull) {
		t.Errorf("one too many: %v", err)
	}
	table.Remove(3)
	table.Remove(0)
	table.Remove(77)
	if table.Find(3) != nil || table.Find(0) != nil || table.Find(4) == nil {
		t.Error("not the one thread is gone")
	}
	if err := table.Add(99, &kern.ScopeThread{Tid: 99}); err != nil {
		t.Error(err)
	}
	table.RemoveIf(func(th *kern.ScopeThread) bool { return th.Target == 1 })
	var left []uint32
	table.Each(func(tid uint32, th *kern.ScopeThread) { left = append(left, tid) })
	if len(left) != 5 { // 2, 4, 6, 8 and 99
		t.Errorf("left are %v", left)
	}
}

// Two that add the same thread, one of which the other meets before it is done: neither may be found twice.
func TestThreadTableMeetsAnotherThatAdds(t *testing.T) {
	table := newThreadTable(4)
	table.sets[0].Key[5] = 7 | threadEntering // the kernel side is adding it
	if err := table.Add(7, &kern.ScopeThread{Tid: 7}); !errors.Is(err, ErrThreadKnown) {
		t.Errorf("%v", err)
	}
	if table.Find(7) != nil {
		t.Error("an entry is found that is not complete")
	}
	for i, key := range table.sets[0].Key {
		if i != 5 && key != 0 {
			t.Errorf("place %d is still taken", i)
		}
	}
}

func TestThreadTableShowsNoEntryOfAnotherThread(t *testing.T) {
	table := newThreadTable(4)
	table.sets[0].Key[0], table.entries[0].Tid = 7, 8
	table.Each(func(tid uint32, _ *kern.ScopeThread) { t.Errorf("%d is shown", tid) })
}
