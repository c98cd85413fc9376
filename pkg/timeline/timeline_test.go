package timeline

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

var (
	keyA = pstate.Key{PID: 10, StartTime: 100}
	keyB = pstate.Key{PID: 20, StartTime: 200}
)

// run makes n intervals of d nanoseconds each on one P, alternating running and idle, from start on.
func run(p int32, start int64, n int, d int64) []pstate.Interval {
	ivs := make([]pstate.Interval, n)
	for i := range ivs {
		state, thread := pstate.Running, pstate.OnCPU
		if i%2 == 1 {
			state, thread = pstate.Idle, pstate.NoThread
		}
		ivs[i] = pstate.Interval{P: p, State: state, Thread: thread, Start: start + int64(i)*d, End: start +
			int64(i+1)*d}
	}
	return ivs
}

func TestPackKeepsEveryField(t *testing.T) {
	for _, iv := range []pstate.Interval{
		{P: 0, State: pstate.Idle, Thread: pstate.NoThread, Start: 1, End: 2},
		{P: maxP, State: pstate.GC, Thread: pstate.Stopped, Merged: true, Start: 1 << 60, End: 1<<60 + maxDuration},
		{P: 1023, State: pstate.GCStop, Thread: pstate.Uninterruptible, Start: time.Now().UnixNano(),
			End: time.Now().UnixNano() + 1e9},
	} {
		if got := pack(iv.P, iv.State, iv.Thread, iv.Merged, iv.Start, iv.End).interval(); got != iv {
			t.Errorf("packed %+v, unpacked %+v", iv, got)
		}
	}
}

func TestIntervalLongerThanARecordHolds(t *testing.T) {
	s := New(Options{})
	day := int64(24 * time.Hour)
	s.Append(keyA, []pstate.Interval{{P: 3, State: pstate.Running, Thread: pstate.Uninterruptible, Start: 1000,
		End: 1000 + day}})
	res := s.Intervals(Query{Start: 0, End: 2 * day})
	if len(res.Targets) != 1 || len(res.Targets[0].Ps) != 1 || len(res.Targets[0].Ps[0].Intervals) != 1 {
		t.Fatalf("want the one interval back, got %+v", res)
	}
	if got := res.Targets[0].Ps[0].Intervals[0]; got.Start != 1000 || got.End != 1000+day || got.Merged {
		t.Errorf("got %+v", got)
	}
}

func TestQueryByKeyPAndRange(t *testing.T) {
	s := New(Options{})
	s.Append(keyA, run(0, 1000, 10, 100))
	s.Append(keyA, run(1, 1000, 10, 100))
	s.Append(keyB, run(0, 1000, 10, 100))
	res := s.Intervals(Query{Keys: []pstate.Key{keyA}, Ps: []int32{1}, Start: 1150, End: 1350})
	if len(res.Targets) != 1 || len(res.Targets[0].Ps) != 1 || res.Targets[0].Ps[0].P != 1 {
		t.Fatalf("got %+v", res)
	}
	var spans [][2]int64
	for _, iv := range res.Targets[0].Ps[0].Intervals {
		spans = append(spans, [2]int64{iv.Start, iv.End})
	}
	if want := [][2]int64{{1150, 1200}, {1200, 1300}, {1300, 1350}}; !slices.Equal(spans, want) {
		t.Errorf("spans %v, want %v", spans, want)
	}
}

func TestOpenIntervalsReachNow(t *testing.T) {
	s := New(Options{})
	s.Append(keyA, run(0, 1000, 2, 100)) // to 1200
	res := s.Intervals(Query{Start: 0, End: 5000, Open: func(pstate.Key) []pstate.Interval {
		return []pstate.Interval{{P: 0, State: pstate.Running, Thread: pstate.OnCPU, Start: 1150, End: 2000}}
	}})
	ivs := res.Targets[0].Ps[0].Intervals
	if last := ivs[len(ivs)-1]; last.Start != 1200 || last.End != 2000 {
		t.Errorf("the open interval must begin where the last closed one ended: %+v", last)
	}
}

func TestOverlapsAreCutAndCounted(t *testing.T) {
	s := New(Options{Now: func() time.Time { return time.Unix(0, 5000) }})
	s.Append(keyA, []pstate.Interval{
		{P: 0, State: pstate.Running, Start: 1000, End: 2000},
		{P: 0, State: pstate.Idle, Start: 1500, End: 2500},
		{P: 0, State: pstate.Idle, Start: 1600, End: 1700},
		{P: -1, State: pstate.Idle, Start: 3000, End: 3100},
		{P: 0, State: 77, Start: 3000, End: 3100},
	})
	res := s.Intervals(Query{Start: 0, End: 10000})
	ivs := res.Targets[0].Ps[0].Intervals
	if len(ivs) != 2 || ivs[1].Start != 2000 || ivs[1].End != 2500 {
		t.Errorf("got %+v", ivs)
	}
	if res.Lost["out_of_order"] != 3 {
		t.Errorf("lost %v, want 3 out_of_order", res.Lost)
	}
}

func TestFullRingTakesFromTheLargest(t *testing.T) {
	const limit = 256 << 10
	s := New(Options{MaxBytes: limit})
	s.Append(keyB, run(0, 0, 100, 10)) // quiet, first
	for i := range 100 {
		s.Append(keyA, run(0, int64(i)*10000, 1000, 10))
		if s.Bytes() > limit {
			t.Fatalf("%d bytes held, the bound is %d", s.Bytes(), limit)
		}
	}
	res := s.Intervals(Query{Start: 0, End: 1 << 40, MaxPerP: -1})
	if len(res.Targets) != 2 {
		t.Fatalf("want both targets, got %d", len(res.Targets))
	}
	a, b := res.Targets[0], res.Targets[1]
	if b.HeldFrom != 0 || len(b.Ps[0].Intervals) != 100 {
		t.Errorf("the busy target pushed the quiet one's history out: %d left, held from %d", len(b.Ps[0].Intervals),
			b.HeldFrom)
	}
	if a.HeldFrom == 0 || a.Ps[0].Intervals[0].Start != a.HeldFrom {
		t.Errorf("held from %d, but the first interval starts at %d", a.HeldFrom, a.Ps[0].Intervals[0].Start)
	}
	if n := len(a.Ps[0].Intervals); n < limit/recordBytes/2 {
		t.Errorf("only %d intervals use the ring of %d bytes", n, limit)
	}
}

func TestManyShortLivedTargetsStayInBounds(t *testing.T) {
	const limit = 128 << 10
	s := New(Options{MaxBytes: limit})
	for i := range 1500 {
		k := pstate.Key{PID: int32(i + 1), StartTime: 1}
		s.Append(k, run(0, 0, 3, 10))
		s.AppendStop(k, pstate.Stop{Start: 1, End: 2, Reason: "x"})
		s.End(k, 100)
	}
	if s.Bytes() > limit {
		t.Errorf("%d bytes held, the bound is %d", s.Bytes(), limit)
	}
	if n := len(s.Held()); n == 0 || n > limit/targetOverhead {
		t.Errorf("%d targets held", n)
	}
}

func TestStopsAreBoundedAndLongestKept(t *testing.T) {
	s := New(Options{MaxBytes: 256 << 10})
	for i := range int64(20_000) {
		s.AppendStop(keyA, pstate.Stop{Start: i * 1000, End: i*1000 + 1 + i%100, Reason: "GC mark termination"})
	}
	if got := s.stopBytes.Load(); got > 256<<10/stopShare {
		t.Errorf("stops take %d bytes", got)
	}
	all := s.Stops(Query{Start: 0, End: 1 << 60})
	if all.HeldFrom == 0 || all.Stops[0].Start < all.HeldFrom {
		t.Errorf("held from %d, first stop at %d", all.HeldFrom, all.Stops[0].Start)
	}
	res := s.Stops(Query{Start: 0, End: 1 << 60, Limit: 5})
	if len(res.Stops) != 5 || res.Omitted != uint64(len(all.Stops)-5) {
		t.Fatalf("got %d stops, %d omitted of %d", len(res.Stops), res.Omitted, len(all.Stops))
	}
	for i, stop := range res.Stops {
		if stop.Duration() < 100 {
			t.Errorf("stop %d is %v long: the longest must be kept", i, stop.Duration())
		}
		if i > 0 && stop.Start < res.Stops[i-1].Start {
			t.Errorf("stops are not ordered by start")
		}
	}
}

func TestCursorReadsEachOnce(t *testing.T) {
	s := New(Options{})
	s.Append(keyA, run(0, 0, 10, 10))
	cur := s.Cursor(keyA)
	if n := s.Since(keyA, cur, 0); len(n.Intervals) != 0 {
		t.Fatalf("nothing is new, got %d", len(n.Intervals))
	}
	next := int64(100)
	var got []pstate.Interval
	for i := range 50 {
		n := i * 7 % 100
		s.Append(keyA, run(0, next, n, 10))
		s.AppendStop(keyA, pstate.Stop{Start: next, End: next + 1})
		next += int64(n) * 10
		news := s.Since(keyA, cur, 0)
		if news.Missed != 0 || len(news.Intervals) != n || len(news.Stops) != 1 {
			t.Fatalf("round %d: %d intervals (want %d), %d stops, missed %d", i, len(news.Intervals), n,
				len(news.Stops), news.Missed)
		}
		got = append(got, news.Intervals...)
		cur = news.Next
	}
	for i := 1; i < len(got); i++ {
		if got[i].Start != got[i-1].End {
			t.Fatalf("interval %d starts at %d, the one before ended at %d", i, got[i].Start, got[i-1].End)
		}
	}
}

func TestSlowCursorIsToldWhatItMissed(t *testing.T) {
	s := New(Options{MaxBytes: 64 << 10})
	s.Append(keyA, run(0, 0, 1, 10))
	cur := s.Cursor(keyA)
	const n = 20_000
	for i := range n / 100 {
		s.Append(keyA, run(0, 10+int64(i)*1000, 100, 10))
	}
	news := s.Since(keyA, cur, 0)
	if news.Missed == 0 || news.Missed+uint64(len(news.Intervals)) != n {
		t.Errorf("%d read + %d missed, want %d together", len(news.Intervals), news.Missed, n)
	}
	news = s.Since(keyA, cur, 50)
	if len(news.Intervals) != 50 || news.Missed != n-50 || news.Intervals[49].End != 10+n*10 {
		t.Errorf("limit 50: %d read, %d missed", len(news.Intervals), news.Missed)
	}
}

func TestLossesByRangeAndBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	s := New(Options{Now: func() time.Time { return now }})
	for range 10_000 {
		s.Lost(keyA, "ring_full", 2)
		now = now.Add(time.Second)
	}
	if got := s.LostTotals(keyA)["ring_full"]; got != 20_000 {
		t.Errorf("total %d, want 20000", got)
	}
	end := now.UnixNano()
	if got := s.Intervals(Query{Keys: []pstate.Key{keyA}, Start: end - 10e9, End: end}).Lost["ring_full"]; got != 20 {
		t.Errorf("lost in the last ten seconds: %d, want 20", got)
	}
	if got := s.Intervals(Query{Keys: []pstate.Key{keyA}, Start: 0, End: end}).Lost["ring_full"]; got != 20_000 {
		t.Errorf("lost in all: %d, want 20000", got)
	}
	if n := len(s.targets[keyA].lost.byReason["ring_full"]); n > maxLossEntries {
		t.Errorf("%d entries", n)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := New(Options{MaxBytes: 128 << 10})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range 100 {
				k := pstate.Key{PID: int32(rng.IntN(20)) + 1}
				s.Append(k, run(int32(w), int64(i)*1000, 50, 10))
				s.AppendStop(k, pstate.Stop{Start: int64(i) * 1000, End: int64(i)*1000 + 5})
				s.Intervals(Query{Start: 0, End: 1 << 40, MaxPerP: 20})
				s.Since(k, Cursor{Interval: uint64(rng.IntN(1000))}, 10)
				s.Stops(Query{Start: 0, End: 1 << 40})
				if i%50 == 0 {
					s.End(k, int64(i))
				}
			}
		})
	}
	wg.Wait()
	if s.Bytes() > 128<<10 {
		t.Errorf("%d bytes held", s.Bytes())
	}
	var sum int64
	for _, r := range s.targets {
		sum += r.bytes.Load()
	}
	if sum != s.Bytes() {
		t.Errorf("accounted %d bytes, rings hold %d", s.Bytes(), sum)
	}
}
