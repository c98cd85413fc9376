package timeline

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// finishes fails the test if f does not return: a deadlock.
func finishes(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		t.Fatal("deadlock: the store's methods wait for each other")
	}
}

// TestReadersDontBlockEviction calls every method at once while short-lived targets fill the store. Held used to lock
// the store, then a ring, and eviction the other way round.
func TestReadersDontBlockEviction(t *testing.T) {
	s := New(Options{MaxBytes: 512 << 10})
	finishes(t, func() {
		var writers, readers sync.WaitGroup
		var stop atomic.Bool
		for range 2 {
			readers.Go(func() {
				for !stop.Load() {
					time.Sleep(100 * time.Microsecond)
					for k := range s.Held() {
						s.Since(k, Cursor{}, 10)
						s.Cursor(k)
						s.LostTotals(k)
						break
					}
				}
			})
		}
		readers.Go(func() {
			for !stop.Load() {
				time.Sleep(10 * time.Millisecond)
				s.Intervals(Query{Start: 0, End: 1 << 40, MaxPerP: 1})
				s.Stops(Query{Start: 0, End: 1 << 40})
			}
		})
		for w := range 2 {
			writers.Go(func() {
				for i := range 1500 {
					k := pstate.Key{PID: int32(i), StartTime: uint64(w)}
					s.Append(k, run(0, 0, 3, 10))
					s.AppendStop(k, pstate.Stop{Start: 1, End: 2})
					s.Lost(k, "ring_full", 1)
					s.End(k, int64(i)+1)
				}
			})
		}
		writers.Wait()
		stop.Store(true)
		readers.Wait()
	})
	if s.Bytes() > 512<<10 {
		t.Errorf("%d bytes held, the bound is %d", s.Bytes(), 512<<10)
	}
}

// TestTheEndedGoBeforeTheLiving: a host that starts many short programs doesn't lose the history of those that live.
func TestTheEndedGoBeforeTheLiving(t *testing.T) {
	const limit = 1 << 20
	s := New(Options{MaxBytes: limit})
	for i := range 20 {
		s.Append(keyA, run(0, int64(i)*10_000, 1000, 10)) // 320 KB: well inside
	}
	for i := range 5000 {
		k := pstate.Key{PID: int32(1000 + i), StartTime: 1}
		s.Append(k, run(0, 0, 3, 10))
		s.AppendStop(k, pstate.Stop{Start: 1, End: 2, Reason: "x"})
		s.End(k, int64(i)+1)
	}
	if s.Bytes() > limit {
		t.Fatalf("%d bytes held, the bound is %d", s.Bytes(), limit)
	}
	res := s.Intervals(Query{Keys: []pstate.Key{keyA}, Start: 0, End: 1 << 40, MaxPerP: -1})
	if res.HeldFrom != 0 || len(res.Targets) != 1 || len(res.Targets[0].Ps[0].Intervals) != 20_000 {
		t.Errorf("short programs pushed out what is held of one that lives: held from %d", res.HeldFrom)
	}
	held := s.Held()
	if _, ok := held[keyA]; !ok || len(held) < 200 {
		t.Errorf("%d targets held", len(held))
	}
	// The newest of the ended are those that stay.
	for i := 4900; i < 5000; i++ {
		if _, ok := held[pstate.Key{PID: int32(1000 + i), StartTime: 1}]; !ok {
			t.Fatalf("target %d of 5000 ended lately and is forgotten, others are held", i)
		}
	}
	if s.Forgotten() == 0 {
		t.Error("targets were given up and none is counted")
	}
}

// TestBookkeepingOfTheEndedGoesFirst: what holds nothing any more gives way before any interval does.
func TestBookkeepingOfTheEndedGoesFirst(t *testing.T) {
	const limit = 128 << 10
	s := New(Options{MaxBytes: limit})
	for i := range 100 {
		k := pstate.Key{PID: int32(1000 + i), StartTime: 1}
		s.Lost(k, "ring_full", 1)
		s.End(k, 1)
	}
	s.Append(keyA, run(0, 0, 5000, 10))
	if held := s.Held(); len(held) >= 100 {
		t.Errorf("%d targets held", len(held))
	}
	s.Append(keyB, run(0, 0, 1, 10))
	res := s.Intervals(Query{Keys: []pstate.Key{keyA}, Start: 0, End: 1 << 40, MaxPerP: -1})
	if res.HeldFrom != 0 {
		t.Errorf("intervals of a living target went before the bookkeeping of the dead: held from %d", res.HeldFrom)
	}
}

// TestATargetThatGoesOnIsNotTakenForEnded: after an exec that was noticed late the same key is observed again.
func TestATargetThatGoesOnIsNotTakenForEnded(t *testing.T) {
	s := New(Options{})
	s.Append(keyA, run(0, 0, 3, 10))
	s.End(keyA, 40)
	if at := s.Held()[keyA]; at != 40 {
		t.Errorf("ended at %d, want 40", at)
	}
	s.Append(keyA, run(0, 50, 3, 10))
	if at := s.Held()[keyA]; at != 0 {
		t.Errorf("it goes on and is said to have ended at %d", at)
	}
	if n := s.Since(keyA, Cursor{}, 0); n.Ended != 0 || len(n.Intervals) != 6 {
		t.Errorf("ended at %d, %d intervals", n.Ended, len(n.Intervals))
	}
}

// TestLivingTargetsAreNeverForgotten: their cursors stay good however small the store is.
func TestLivingTargetsAreNeverForgotten(t *testing.T) {
	s := New(Options{MaxBytes: 64 << 10})
	const targets = 300
	cursors := map[pstate.Key]Cursor{}
	read, missed := uint64(0), uint64(0)
	for round := range 50 {
		for i := range targets {
			k := pstate.Key{PID: int32(i + 1), StartTime: 1}
			s.Append(k, run(0, int64(round)*1000, 20, 10))
			if round == 0 {
				cursors[k] = Cursor{Interval: 1, Stop: 1}
			}
		}
	}
	for k, c := range cursors {
		n := s.Since(k, c, 0)
		read, missed = read+uint64(len(n.Intervals)), missed+n.Missed
	}
	if read+missed != 50*targets*20 {
		t.Errorf("%d read and %d missed of %d", read, missed, 50*targets*20)
	}
	if most := int64(64<<10) + targets*targetOverhead; s.Bytes() > most {
		t.Errorf("%d bytes held, want at most the bound and the bookkeeping of the living, %d", s.Bytes(), most)
	}
}

func BenchmarkEvictAmongManyTargets(b *testing.B) {
	s := New(Options{MaxBytes: 16 << 20})
	for i := range 10_000 {
		s.Append(pstate.Key{PID: int32(1000 + i), StartTime: 1}, run(0, 0, 3, 10))
	}
	at := int64(0)
	for b.Loop() {
		s.Append(keyA, run(0, at, 512, 10))
		at += 512 * 10
	}
}
