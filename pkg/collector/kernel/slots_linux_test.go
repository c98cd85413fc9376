package kernel

import (
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/collector/share"
)

// TestChunksAfterAdmission: a process that was let in gets all its chunks, whoever waits.
func TestChunksAfterAdmission(t *testing.T) {
	k := &Side{room: share.NewRoom(2, 4, 10), freeChunks: []uint16{3, 2, 1}}
	k.room.Take(1, share.Ps, 1)
	if err := k.Admit(1, share.Ps, 3); err != nil {
		t.Fatal(err)
	}
	if k.Admit(2, share.Ps, 4) == nil {
		t.Fatal("there is no room for another one")
	}
	_ = k.room.Ask(2, share.Ps, 1, 0) // it waits
	for range 3 {
		if _, err := k.TakeChunk(1); err != nil {
			t.Error(err)
		}
	}
	if _, err := k.TakeChunk(1); share.MayPass(err) == nil {
		t.Errorf("from an empty table: %v", err)
	}
}

// TestWhoTakesTooManyThreadsIsNotTakenIn: a process that would be let go for its threads is not observed before there
// are fewer.
func TestWhoTakesTooManyThreadsIsNotTakenIn(t *testing.T) {
	const other = 2
	for _, c := range []struct {
		uid     uint32
		has, n  int // threads that another process of user 2 has, and that this one asks for
		tooMany bool
	}{
		{1, 5, 85, true},
		{1, 5, 80, false}, // below 7/8 of the table
		{1, 60, 30, false},
		{1, 40, 55, true},
		{other, 40, 49, false}, // nobody else is there, and it is not most of the table
		{other, 40, 55, true},
		{other, 0, 100, false},
	} {
		k := &Side{room: share.NewRoom(4, 4, 100)}
		if c.has > 0 {
			k.room.Take(other, share.Targets, 1)
			k.room.Take(other, share.Threads, c.has)
		}
		if err := k.Admit(c.uid, share.Threads, c.n); (err != nil) != c.tooMany {
			t.Errorf("%+v: %v", c, err)
		} else if err != nil && (share.MayPass(err) == nil || !strings.Contains(err.Error(), "a fair share")) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
