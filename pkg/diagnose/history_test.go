package diagnose

import (
	"math"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/pstate"
)

var start = time.Unix(1_700_000_000, 0)

func TestWindowsFitTheRange(t *testing.T) {
	src := viewtest.New(1, 2, start)
	h := NewHistory(10)
	at := start
	for range 30 {
		at = at.Add(Every)
		if !h.Due(at) {
			t.Fatalf("no point due after %v", Every)
		}
		h.Add(at, src.Views(at))
		if h.Due(at.Add(Every / 2)) {
			t.Fatal("a point is due after half the time")
		}
	}
	// Points are held from 210 s to 300 s; now is 305 s.
	now := start.Add(305 * time.Second)
	v := &src.Views(now)[0]
	sec := func(n int) int64 { return start.Add(time.Duration(n) * time.Second).UnixNano() }
	for _, c := range []struct {
		name             string
		from, to         int64
		wantFrom, wantTo int64
		none             bool
	}{
		{"on points", sec(230), sec(260), sec(230), sec(260), false},
		{"between points", sec(235), sec(255), sec(230), sec(260), false},
		{"to now", sec(275), sec(305), sec(270), sec(305), false},
		{"into the future", sec(290), sec(900), sec(290), sec(305), false},
		{"from before what is held", sec(100), sec(250), sec(210), sec(250), false},
		{"wholly before what is held", sec(20), sec(100), 0, 0, true},
		{"wholly before the target", sec(-100), sec(-50), 0, 0, true},
	} {
		w, ok := h.Window(v, c.from, c.to)
		if ok == c.none || ok && (w.Start != c.wantFrom || w.End != c.wantTo) {
			t.Errorf("%s: [%d, %d] s, ok %v", c.name, (w.Start-sec(0))/1e9, (w.End-sec(0))/1e9, ok)
			continue
		}
		if ok && (math.Abs(w.Ps[1].Busy-0.5) > 1e-6 || math.Abs(w.Ps[0].Thread[pstate.Runnable]-0.05) > 1e-6) {
			t.Errorf("%s: P1 busy %v, want 0.5", c.name, w.Ps[1].Busy)
		}
	}
}

func TestYoungTargetIsKnownFromItsStart(t *testing.T) {
	src := viewtest.New(1, 1, start)
	h := NewHistory(0)
	v := &src.Views(start.Add(4 * time.Second))[0]
	w, ok := h.Window(v, start.Add(-time.Minute).UnixNano(), start.Add(time.Minute).UnixNano())
	if !ok || w.Duration() != 4*time.Second {
		t.Errorf("%v, %v", w.Duration(), ok)
	}
}

func TestHistoryForgetsEndedTargets(t *testing.T) {
	src := viewtest.New(3, 1, start)
	h := NewHistory(0)
	h.Add(start.Add(Every), src.Views(start.Add(Every)))
	src.End(0)
	h.Add(start.Add(2*Every), src.Views(start.Add(2*Every)))
	if len(h.targets) != 2 {
		t.Errorf("%d targets are remembered, want 2", len(h.targets))
	}
}

func TestBlockedThreads(t *testing.T) {
	src := viewtest.New(2, 1, start)
	thread := func(tid int32, state pstate.ThreadState, d time.Duration) pstate.ThreadView {
		th := pstate.ThreadView{TID: tid, State: state, P: 0}
		th.Time[state] = d
		return th
	}
	set := func(i int, ths ...pstate.ThreadView) {
		src.Change(i, func(v *pstate.TargetView) { v.Threads = ths })
	}
	set(0, thread(1, pstate.Uninterruptible, 50*time.Second), thread(2, pstate.Sleeping, time.Second))
	set(1)
	h := NewHistory(0)
	at := start.Add(100 * time.Second)
	h.Add(at, src.Views(at))
	end := at.Add(20 * time.Second)
	// Thread 1 was blocked long ago, and for two seconds since; 3 is new and was blocked for 15; 2 and 4 slept.
	set(0, thread(1, pstate.Uninterruptible, 52*time.Second), thread(2, pstate.Sleeping, 21*time.Second),
		thread(4, pstate.Sleeping, 5*time.Second))
	set(1, thread(3, pstate.Runnable, 15*time.Second))
	var ws []Window
	for _, v := range src.Views(end) {
		w, ok := h.Window(&v, at.UnixNano(), end.UnixNano())
		if !ok {
			t.Fatal("no window")
		}
		ws = append(ws, w)
	}
	var tids []int32
	for _, b := range TopBlocked(ws, 10) {
		tids = append(tids, b.TID)
		if b.TID == 1 && b.In[pstate.Uninterruptible] != 2*time.Second {
			t.Errorf("thread 1 was blocked for %v of the window, want 2 s", b.In[pstate.Uninterruptible])
		}
	}
	if len(tids) != 4 || tids[0] != 3 || tids[1] != 1 || tids[2] != 2 || tids[3] != 4 {
		t.Errorf("order %v, want [3 1 2 4]", tids)
	}
	if n := len(TopBlocked(ws, 2)); n != 2 {
		t.Errorf("top 2 gives %d", n)
	}
}

// TestWindowTellsHeldPsFromFree: a P whose last thread sleeps in D while the P is idle is not held by it.
func TestWindowTellsHeldPsFromFree(t *testing.T) {
	at := start.Add(100 * time.Second)
	v := pstate.TargetView{At: at.UnixNano(), Ps: []pstate.PView{
		{P: 0, FirstSeen: start.UnixNano(), TID: 7, Uninterruptible: 90 * time.Second, RunqSum: 1060, RunqIdle: 50,
			RunqIdleSum: 100},
		{P: 1, FirstSeen: start.UnixNano(), Uninterruptible: 90 * time.Second},
	}}
	v.Ps[0].RunqHist[0], v.Ps[0].RunqHist[4] = 900, 100
	v.Ps[0].Time[pstate.Running][pstate.Uninterruptible], v.Ps[0].Time[pstate.Running][pstate.OnCPU] = 90*time.Second,
		10*time.Second
	v.Ps[1].Time[pstate.Idle][pstate.NoThread] = 100 * time.Second
	for tid := range int32(3) {
		th := pstate.ThreadView{TID: 6 + tid, State: pstate.Uninterruptible,
			Since: at.Add(-30 * time.Second).UnixNano()}
		th.Time[pstate.Uninterruptible] = 30 * time.Second
		v.Threads = append(v.Threads, th)
	}
	w, ok := NewHistory(0).Window(&v, start.UnixNano(), at.UnixNano())
	if !ok {
		t.Fatal("no window")
	}
	if p := w.Ps[0]; math.Abs(p.Stuck-.9) > 1e-9 || math.Abs(p.Queue-1.06) > 1e-9 || math.Abs(p.QueueIdle-.05) > 1e-9 ||
		p.QueueIdleDepth != 2 || p.Looks != 1000 {
		t.Errorf("P0: %+v", p)
	}
	if p := w.Ps[1]; p.Stuck != 0 || math.Abs(p.Uninterruptible-.9) > 1e-9 {
		t.Errorf("P1: %+v", p)
	}
	without := 0
	for _, th := range w.Threads {
		if th.WithoutP {
			without++
		}
		if th.WithoutP == (th.TID == 7) {
			t.Errorf("thread %d carries P0: %v", th.TID, !th.WithoutP)
		}
	}
	if without != 2 {
		t.Errorf("%d threads without a P, want 2", without)
	}
}

func TestPointsAreBounded(t *testing.T) {
	src := viewtest.New(1, 1, start)
	src.Change(0, func(v *pstate.TargetView) {
		for i := range 10_000 {
			th := pstate.ThreadView{TID: int32(i)}
			th.Time[pstate.Uninterruptible] = time.Duration(i)
			v.Threads = append(v.Threads, th)
		}
	})
	pt := pointOf(&src.Views(start.Add(time.Second))[0])
	if len(pt.threads) != maxThreads || pt.threads[0].tid != 9999 {
		t.Errorf("%d threads, the first is %d", len(pt.threads), pt.threads[0].tid)
	}
}
