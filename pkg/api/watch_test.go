package api

import (
	"context"
	"net/http"
	"runtime"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
	"github.com/p-scope/p-scope/pkg/pstate"
)

type watchStream = connect.ServerStreamForClient[pb.WatchResponse]

func watch(t *testing.T, f *fixture, req *pb.WatchRequest) (*watchStream, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := f.client.Watch(ctx, connect.NewRequest(req))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); s.Close() })
	return s, cancel
}

func next(t *testing.T, s *watchStream) *pb.WatchResponse {
	t.Helper()
	if !s.Receive() {
		t.Fatalf("the stream ended: %v", s.Err())
	}
	return s.Msg()
}

func TestWatchTellsATargetOnce(t *testing.T) {
	f := serve(t, nil)
	s, _ := watch(t, f, &pb.WatchRequest{RateHz: 50, Selector: &pb.Selector{Process: "server-0", Ps: []int32{0, 3}}})
	first := next(t, s)
	if len(first.Targets) != 1 || first.Targets[0].Target.Exe == "" || len(first.Targets[0].Ps) != 2 {
		t.Fatalf("first message: %v", first)
	}
	var idle uint64
	for seq := first.Seq + 1; seq < first.Seq+6; seq++ {
		m := next(t, s)
		if m.Seq != seq {
			t.Errorf("seq %d, want %d", m.Seq, seq)
		}
		u := m.Targets[0]
		if u.Target.Exe != "" || u.Target.Key.Pid != 1000 {
			t.Errorf("told twice: %v", u.Target)
		}
		if n := u.Ps[1].StateNanos[pb.PState_P_STATE_IDLE]; n < idle {
			t.Errorf("idle time went from %d to %d", idle, n)
		} else {
			idle = n
		}
	}
	f.source.Change(0, func(v *pstate.TargetView) { v.GOMAXPROCS = 3 })
	for i := 0; ; i++ {
		if u := next(t, s).Targets[0]; u.Target.Gomaxprocs == 3 && u.Target.Exe != "" {
			break
		}
		if i > 100 {
			t.Fatal("a change of GOMAXPROCS was not told")
		}
	}
}

func TestWatchTransitions(t *testing.T) {
	f := serve(t, nil)
	s, _ := watch(t, f, &pb.WatchRequest{Transitions: true, RateHz: 20, Selector: &pb.Selector{Process: "server-0"}})
	next(t, s)
	base := time.Now().UnixNano()
	const n = 40
	for i := range int64(n) {
		state, thread := pstate.Running, pstate.OnCPU
		if i%2 == 1 {
			state, thread = pstate.Idle, pstate.NoThread
		}
		f.timeline.Append(f.source.Key(0),
			[]pstate.Interval{{P: 1, State: state, Thread: thread, Start: base + i*100, End: base + i*100 + 100}})
	}
	f.timeline.AppendStop(f.source.Key(0), pstate.Stop{Start: base, End: base + 50, Reason: "GC mark termination"})
	got, stops, batches := 0, 0, 0
	at, last := base, pb.PState_P_STATE_UNSPECIFIED
	for deadline := time.Now().Add(10 * time.Second); got < n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d transitions came", got, n)
		}
		u := next(t, s).Targets[0]
		stops += len(u.Stops)
		for _, b := range u.Transitions {
			batches++
			if len(b.Code) > 16 || b.P != 1 || len(b.Count) != 0 || len(b.GapNanos) != len(b.Code) ||
				len(b.DurationNanos) != len(b.Code) {
				t.Fatalf("batch %v", b)
			}
			start := b.BaseUnixNano
			for i, code := range b.Code {
				start += int64(b.GapNanos[i])
				from, to := pb.PState(code&15), pb.PState(code>>4&15)
				if start != at || from != last || from == to {
					t.Fatalf("transition %d: from %v to %v at %d, want from %v at %d", got, from, to, start-base, last,
						at-base)
				}
				start += int64(b.DurationNanos[i])
				at, last = start, to
				got++
			}
		}
	}
	if stops != 1 {
		t.Errorf("%d stops, want 1", stops)
	}
	if batches != 3 {
		t.Errorf("%d transitions came in %d batches, want 3", n, batches)
	}
}

func TestWatchEnds(t *testing.T) {
	f := serve(t, nil)
	s, _ := watch(t, f, &pb.WatchRequest{RateHz: 50, Transitions: true})
	next(t, s)
	now := time.Now().UnixNano()
	f.timeline.Append(f.source.Key(0),
		[]pstate.Interval{{P: 1, State: pstate.Running, Thread: pstate.OnCPU, Start: now, End: now + 100}})
	f.source.End(0)
	ended, transitions := 0, 0
	for range 10 {
		m := next(t, s)
		for _, u := range m.Targets {
			if u.Target.Key.Pid == 1000 {
				transitions += len(u.Transitions)
				if ended > 0 {
					t.Error("an update after the end")
				}
				if u.Ended {
					ended++
				}
			}
		}
	}
	if ended != 1 || transitions != 1 {
		t.Errorf("ended was told %d times, %d batches, want one of each", ended, transitions)
	}
}

func TestWatchResumes(t *testing.T) {
	f := serve(t, nil)
	req := &pb.WatchRequest{Transitions: true, RateHz: 30, Selector: &pb.Selector{Process: "server-0"}}
	s, cancel := watch(t, f, req)
	base := time.Now().UnixNano()
	add := func(i int64) {
		f.timeline.Append(f.source.Key(0),
			[]pstate.Interval{{P: 0, State: pstate.State(i % 2), Thread: pstate.OnCPU, Start: base + i*100, End: base +
				i*100 + 100}})
	}
	starts := make(map[int64]int)
	take := func(m *pb.WatchResponse) {
		for _, u := range m.Targets {
			for _, b := range u.Transitions {
				at := b.BaseUnixNano
				for i := range b.Code {
					at += int64(b.GapNanos[i])
					starts[at-base]++
					at += int64(b.DurationNanos[i])
				}
			}
		}
	}
	var last uint64
	for i := range int64(20) {
		add(i)
		m := next(t, s)
		take(m)
		last = m.Seq
	}
	cancel()
	for i := int64(20); i < 50; i++ {
		add(i)
	}
	req.ResumeAfterSeq = last
	s, _ = watch(t, f, req)
	m := next(t, s)
	if m.Resync || m.Seq != last+1 {
		t.Fatalf("resumed after %d with %d, resync %v", last, m.Seq, m.Resync)
	}
	take(m)
	for range 15 {
		take(next(t, s))
	}
	for i := range int64(50) {
		if starts[i*100] != 1 {
			t.Errorf("transition %d came %d times", i, starts[i*100])
		}
	}

	req.ResumeAfterSeq = 12345
	s, _ = watch(t, f, req)
	if m := next(t, s); !m.Resync {
		t.Error("a sequence number nobody knows must say resync")
	}
	if m := next(t, s); m.Resync {
		t.Error("resync is for the first message only")
	}
}

func TestSlowReaderIsTold(t *testing.T) {
	f := serve(t, nil)
	s, _ := watch(t, f, &pb.WatchRequest{Transitions: true, RateHz: 60, Selector: &pb.Selector{Process: "server-0"}})
	next(t, s)
	// More intervals between two messages than one message may hold.
	base := time.Now().UnixNano()
	ivs := make([]pstate.Interval, 4*maxNews)
	for i := range ivs {
		ivs[i] = pstate.Interval{P: 0, State: pstate.State(i % 2), Start: base + int64(i)*10, End: base + int64(i)*10 +
			10}
	}
	f.timeline.Append(f.source.Key(0), ivs)
	var lost, got uint64
	for range 40 {
		m := next(t, s)
		for _, l := range m.Lost {
			if l.Reason == "slow_reader" {
				lost += l.Count
			}
		}
		for _, b := range m.Targets[0].Transitions {
			got += uint64(len(b.Code))
		}
	}
	if got == 0 || lost == 0 || got+lost != uint64(len(ivs)) {
		t.Errorf("%d came and %d were told as lost of %d", got, lost, len(ivs))
	}
}

func TestTwoViewersShareTheWork(t *testing.T) {
	f := serve(t, nil)
	var streams []*watchStream
	for range 4 {
		s, _ := watch(t, f, &pb.WatchRequest{RateHz: 10})
		next(t, s)
		streams = append(streams, s)
	}
	before, began := f.source.Looks(), time.Now()
	for range 15 {
		for _, s := range streams {
			next(t, s)
		}
	}
	ticks := time.Since(began).Seconds() * 10
	if n := f.source.Looks() - before; float64(n) > 1.5*ticks+5 {
		t.Errorf("four viewers at 10 Hz made the collector look %d times in %.0f ticks", n, ticks)
	}
}

func TestStreamsEndAtShutdown(t *testing.T) {
	f := serve(t, nil)
	grpc := pscopev1connect.NewScopeServiceClient(h2c(), f.url, connect.WithGRPC())
	s, err := grpc.Watch(t.Context(), connect.NewRequest(&pb.WatchRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if !s.Receive() {
		t.Fatal(s.Err())
	}
	began := time.Now()
	go f.stop()
	for s.Receive() {
	}
	if connect.CodeOf(s.Err()) != connect.CodeUnavailable {
		t.Errorf("at shutdown the stream says %v", s.Err())
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestNoGoroutineIsLeftBehind(t *testing.T) {
	f := serve(t, nil)
	http.DefaultClient.CloseIdleConnections()
	time.Sleep(50 * time.Millisecond)
	before := runtime.NumGoroutine()
	for range 20 {
		s, cancel := watch(t, f, &pb.WatchRequest{RateHz: 60})
		next(t, s)
		cancel()
		s.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	for i := 0; runtime.NumGoroutine() > before+3; i++ {
		if i > 200 {
			t.Fatalf("%d goroutines before, %d after twenty viewers came and went", before, runtime.NumGoroutine())
		}
		time.Sleep(20 * time.Millisecond)
	}
	for range 2 * resumeStreams {
		f.service.resumes.begin().leave(0)
	}
	if n := f.service.resumes.streams(); n > resumeStreams {
		t.Errorf("%d streams are remembered", n)
	}
}

func TestCapture(t *testing.T) {
	f := serve(t, nil)
	s, err := f.client.Capture(t.Context(),
		connect.NewRequest(&pb.CaptureRequest{DurationNanos: int64(time.Second),
			Selector: &pb.Selector{Process: "server-0"}}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	began := time.Now()
	if !s.Receive() {
		t.Fatal(s.Err())
	}
	base := time.Now().UnixNano()
	for i := range int64(100) {
		f.timeline.Append(f.source.Key(0),
			[]pstate.Interval{{P: 2, State: pstate.State(i % 2), Thread: pstate.OnCPU, Start: base + i*1000, End: base +
				i*1000 + 1000}})
	}
	f.timeline.AppendStop(f.source.Key(0), pstate.Stop{Start: base, End: base + 10, Reason: "x"})
	closed, stops := 0, 0
	ends := make(map[int32]int64)
	for s.Receive() {
		stops += len(s.Msg().Stops)
		for _, ti := range s.Msg().Intervals {
			if ti.Target.Process != "server-0" {
				t.Errorf("%s was not asked for", ti.Target.Process)
			}
			for _, p := range ti.Ps {
				for _, iv := range spans(p) {
					if iv.Start < ends[p.P] {
						t.Errorf("P%d: an interval at %d overlaps one that ended at %d", p.P, iv.Start, ends[p.P])
					}
					ends[p.P] = iv.End
					if p.P == 2 && iv.End-iv.Start == 1000 {
						closed++
					}
				}
			}
		}
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	if closed != 100 || stops != 1 {
		t.Errorf("%d intervals and %d stops, want 100 and 1", closed, stops)
	}
	if len(ends) != 4 {
		t.Errorf("open intervals of %d Ps, want all 4", len(ends))
	}
	if d := time.Since(began); d < 900*time.Millisecond || d > 4*time.Second {
		t.Errorf("a capture of a second took %v", d)
	}
}
