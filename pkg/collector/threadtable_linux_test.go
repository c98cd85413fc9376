package collector

import (
	"errors"
	"testing"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

func newThreadTable(threads int) *threadTable {
	n := threadSets(threads)
	return &threadTable{make([]kern.ScopeThreadSet, n), make([]kern.ScopeThread, int(n)*threadWays)}
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
		if err := table.add(tid, &kern.ScopeThread{Tid: tid, Target: tid % 2}); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.add(3, &kern.ScopeThread{}); !errors.Is(err, errThreadKnown) {
		t.Errorf("a thread that is there: %v", err)
	}
	if err := table.add(99, &kern.ScopeThread{}); !errors.Is(err, errThreadsFull) {
		t.Errorf("one too many: %v", err)
	}
	table.remove(3)
	table.remove(0)
	table.remove(77)
	if table.find(3) != nil || table.find(0) != nil || table.find(4) == nil {
		t.Error("not the one thread is gone")
	}
	if err := table.add(99, &kern.ScopeThread{Tid: 99}); err != nil {
		t.Error(err)
	}
	table.removeIf(func(th *kern.ScopeThread) bool { return th.Target == 1 })
	var left []uint32
	table.each(func(tid uint32, th *kern.ScopeThread) { left = append(left, tid) })
	if len(left) != 5 { // 2, 4, 6, 8 and 99
		t.Errorf("left are %v", left)
	}
}

// Two that add the same thread, one of which the other meets before it is done: neither may be found twice.
func TestThreadTableMeetsAnotherThatAdds(t *testing.T) {
	table := newThreadTable(4)
	table.sets[0].Key[5] = 7 | threadEntering // the kernel side is adding it
	if err := table.add(7, &kern.ScopeThread{Tid: 7}); !errors.Is(err, errThreadKnown) {
		t.Errorf("%v", err)
	}
	if table.find(7) != nil {
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
	table.each(func(tid uint32, _ *kern.ScopeThread) { t.Errorf("%d is shown", tid) })
}
