package collector

import (
	"strings"
	"testing"
)

// TestChunksAfterAdmission: a process that was let in gets all its chunks, whoever waits.
func TestChunksAfterAdmission(t *testing.T) {
	k := &kernelSide{room: newRoom(2, 4, 10), freeChunks: []uint16{3, 2, 1}}
	k.room.take(1, roomForPs, 1)
	if err := k.admit(1, roomForPs, 3); err != nil {
		t.Fatal(err)
	}
	if k.admit(2, roomForPs, 4) == nil {
		t.Fatal("there is no room for another one")
	}
	_ = k.room.ask(2, roomForPs, 1, 0) // it waits
	for range 3 {
		if _, err := k.takeChunk(1); err != nil {
			t.Error(err)
		}
	}
	if _, err := k.takeChunk(1); waitsForRoom(err) == nil {
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
		k := &kernelSide{room: newRoom(4, 4, 100)}
		if c.has > 0 {
			k.room.take(other, roomForTargets, 1)
			k.room.take(other, roomForThreads, c.has)
		}
		if err := k.admit(c.uid, roomForThreads, c.n); (err != nil) != c.tooMany {
			t.Errorf("%+v: %v", c, err)
		} else if err != nil && (waitsForRoom(err) == nil || !strings.Contains(err.Error(), "a fair share")) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
