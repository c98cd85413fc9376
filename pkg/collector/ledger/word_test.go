package ledger

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/pstate"
)

func TestWordKeepsItsParts(t *testing.T) {
	for _, s := range pstate.States() {
		for _, th := range pstate.ThreadStates() {
			w := NewWord(1<<SinceBits+12345, ownerMask, s, th)
			if w.State() != s || w.Thread() != th || w.Owner() != ownerMask || uint64(w)&SinceMask != 12345 {
				t.Errorf("%v/%v comes back as %v/%v owner %d since %d", s, th, w.State(), w.Thread(), w.Owner(),
					uint64(w)&SinceMask)
			}
		}
	}
}

func TestTicksSurviveTheWrapOfSince(t *testing.T) {
	now := uint64(5)<<SinceBits + 10 // ten ticks after a wrap
	w := uint64(NewWord(now-30, 1, pstate.Running, pstate.OnCPU))
	if got := Elapsed(now, w); got != 30 {
		t.Errorf("elapsed over the wrap: %d ticks, want 30", got)
	}
	if got := Since(now, w); got != now-30 {
		t.Errorf("since over the wrap: %d, want %d", got, now-30)
	}
	if ahead := uint64(NewWord(now+7, 1, pstate.Running, pstate.OnCPU)); Elapsed(now, ahead) != 0 ||
		Since(now, ahead) != now+7 {
		t.Errorf("a since ahead of now: elapsed %d, since %d, want 0 and %d", Elapsed(now, ahead), Since(now, ahead),
			now+7)
	}
}

// Many writers move one P at the same time; no tick may be lost or counted twice, and every reader must see times that
// sum to the time passed.
func TestConcurrentSwapsLoseNothing(t *testing.T) {
	birth := Now()
	r := &kern.ScopeP_record{Word: uint64(NewWord(birth, 0, pstate.Idle, pstate.NoThread)), Birth: birth}
	var writers, readers sync.WaitGroup
	var stop atomic.Bool
	var moved atomic.Uint64
	for i := range 4 {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for !stop.Load() {
				old := Word(atomic.LoadUint64(&r.Word))
				var took uint64
				if rnd.IntN(3) == 0 {
					took = Now() - uint64(rnd.IntN(50))
				}
				if _, ok := Swap(r, old, Now(), uint32(i+1), pstate.State(rnd.IntN(6)), pstate.ThreadState(rnd.IntN(6)),
					took); ok {
					moved.Add(1)
				}
			}
		})
	}
	var reads atomic.Uint64
	for range 2 {
		readers.Go(func() {
			var last uint64
			for !stop.Load() {
				v, ok := Read(r)
				if !ok {
					continue
				}
				var sum uint64
				for _, n := range v.Time {
					sum += n
				}
				if sum != v.Now-birth {
					t.Errorf("times sum to %d ticks, %d have passed", sum, v.Now-birth)
					return
				}
				if v.Now < last {
					t.Errorf("time ran backwards: %d after %d", v.Now, last)
					return
				}
				last = v.Now
				reads.Add(1)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	stop.Store(true)
	writers.Wait()
	readers.Wait()
	if moved.Load() < 1000 || reads.Load() < 100 {
		t.Fatalf("only %d swaps and %d reads: the test has tested nothing", moved.Load(), reads.Load())
	}
	if v, ok := Read(r); !ok {
		t.Errorf("with nobody writing, the times still don't add up: %+v", v)
	}
}
