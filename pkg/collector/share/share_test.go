package share

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestRoom: what is free is for anybody, and when somebody waits who has less, for that one.
func TestRoom(t *testing.T) {
	r := NewRoom(10, 10, 10)
	free := func() int { return r.Free(Ps) }
	take := func(uid uint32, n int) error {
		err := r.Ask(uid, Ps, n, free())
		if err == nil {
			r.Take(uid, Ps, n)
		}
		return err
	}
	if err := take(1, 10); err != nil {
		t.Fatal(err)
	}
	if err := take(2, 3); MayPass(err) == nil || !errors.Is(err, ErrNoRoom) {
		t.Fatalf("from a full table: %v", err)
	}
	r.Take(1, Ps, -3)
	if err := take(1, 1); err == nil || !strings.Contains(err.Error(), "kept for users who have less of it than "+
		"user 1") {
		t.Errorf("the one who has most takes what another waits for: %v", err)
	}
	if err := take(2, 3); err != nil {
		t.Errorf("the one who waits: %v", err)
	}
	r.Take(1, Ps, -1)
	if err := take(1, 1); err != nil {
		t.Errorf("nobody waits any more: %v", err)
	}
	if uid, has := r.Largest(Ps); uid != 1 || has != 7 {
		t.Errorf("user %d has most, %d", uid, has)
	}
}

// TestRoomIsNotKeptForWhatNobodyCanHave: who waits for more than a share keeps nobody else out.
func TestRoomIsNotKeptForWhatNobodyCanHave(t *testing.T) {
	r := NewRoom(10, 10, 10)
	ask := func(uid uint32, n int) error {
		return r.Ask(uid, Threads, n, r.Free(Threads))
	}
	r.Take(1, Threads, 4)
	for _, n := range []int{11, 9} { // more than the table, and more than the other user has
		if ask(2, n) == nil {
			t.Errorf("there is no room for %d", n)
		}
		if err := ask(1, 1); err != nil {
			t.Errorf("another user waits for %d: %v", n, err)
		}
	}
	r.Take(1, Threads, 6)
	r.user(2).waits[Threads] = time.Time{}
	_, _ = ask(2, 1), ask(2, 9)
	r.Take(1, Threads, -1)
	if ask(1, 1) == nil {
		t.Error("room is kept for the least that another user waits for")
	}
}
