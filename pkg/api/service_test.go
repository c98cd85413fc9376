package api

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// spans unpacks columns.
func spans(p *pb.PIntervals) (out []pstate.Interval) {
	at := p.BaseUnixNano
	for i, code := range p.Code {
		at += int64(p.GapNanos[i])
		iv := pstate.Interval{P: p.P, State: pstate.State(code&15 - 1), Thread: pstate.ThreadState(code>>4&15 - 1),
			Merged: code&mergedInterval != 0, Start: at}
		at += int64(p.DurationNanos[i])
		iv.End = at
		out = append(out, iv)
	}
	return out
}

func TestIntervalsInColumns(t *testing.T) {
	f := serve(t, nil)
	now := time.Now()
	base := now.Add(-30 * time.Second).UnixNano()
	want := []pstate.Interval{
		{P: 2, State: pstate.Running, Thread: pstate.OnCPU, Start: base, End: base + 100},
		{P: 2, State: pstate.GCStop, Thread: pstate.NoThread, Start: base + 100, End: base + 150},
		// after a gap
		{P: 2, State: pstate.Running, Thread: pstate.Uninterruptible, Merged: true, Start: base + 500, End: base + 900},
	}
	f.timeline.Append(f.source.Key(0), want)
	f.timeline.Lost(f.source.Key(0), "ring_full", 3)
	res, err := f.client.Intervals(t.Context(), connect.NewRequest(&pb.IntervalsRequest{
		Selector: &pb.Selector{Process: "server-.*", Pids: []int32{1000}, Ps: []int32{2}}, StartUnixNano: base - 1000,
		EndUnixNano: now.Add(time.Minute).UnixNano(),
	}))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Msg.Targets) != 1 || len(res.Msg.Targets[0].Ps) != 1 || res.Msg.Targets[0].Target.Process != "server-0" {
		t.Fatalf("got %v", res.Msg)
	}
	got := spans(res.Msg.Targets[0].Ps[0])
	if len(got) != 4 {
		t.Fatalf("%d intervals, want three closed and one open", len(got))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("interval %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
	if open := got[3]; open.State != pstate.Running || open.End < now.Add(-2*fresh).UnixNano() {
		t.Errorf("the interval that goes on: %+v", open)
	}
	if len(res.Msg.Lost) != 1 || res.Msg.Lost[0].Reason != "ring_full" || res.Msg.Lost[0].Count != 3 {
		t.Errorf("lost %v", res.Msg.Lost)
	}
}

func TestIntervalsNeverMoreThanAsked(t *testing.T) {
	f := serve(t, nil)
	base := time.Now().Add(-30 * time.Second).UnixNano()
	var ivs []pstate.Interval
	for i := range int64(5000) {
		ivs = append(ivs, pstate.Interval{P: 0, State: pstate.State(i % 3), Thread: pstate.OnCPU, Start: base + i*1000,
			End: base + i*1000 + 1000})
	}
	f.timeline.Append(f.source.Key(1), ivs)
	for _, limit := range []int32{0, 1, 7, 300} {
		res, err := f.client.Intervals(t.Context(),
			connect.NewRequest(&pb.IntervalsRequest{Selector: &pb.Selector{Process: "server-1"}, MaxPerP: limit,
				StartUnixNano: base}))
		if err != nil {
			t.Fatal(err)
		}
		bound := int(limit)
		if bound == 0 {
			bound = 2000
		}
		for _, p := range res.Msg.Targets[0].Ps {
			if len(p.Code) > bound {
				t.Errorf("max_per_p %d: P%d has %d intervals", limit, p.P, len(p.Code))
			}
		}
	}
}

func TestStops(t *testing.T) {
	f := serve(t, nil)
	base := time.Now().Add(-10 * time.Second).UnixNano()
	for i := range int64(20) {
		f.timeline.AppendStop(f.source.Key(0), pstate.Stop{Start: base + i*1e6, End: base + i*1e6 + 1000 + i,
			Reason: "GC sweep termination", Arrivals: []pstate.Arrival{{P: 1, At: base + i*1e6 + 40}}})
	}
	res, err := f.client.Stops(t.Context(),
		connect.NewRequest(&pb.StopsRequest{Selector: &pb.Selector{Process: "server-0"}, Limit: 5}))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Msg.Stops) != 5 || res.Msg.Omitted != 15 {
		t.Fatalf("%d stops, %d omitted", len(res.Msg.Stops), res.Msg.Omitted)
	}
	s := res.Msg.Stops[4]
	if s.EndUnixNano-s.StartUnixNano != 1019 || s.Arrivals[0].AfterNanos != 40 || s.Process != "server-0" ||
		s.Host != "test-host" {
		t.Errorf("got %v", s)
	}
}

func TestBadInput(t *testing.T) {
	f := serve(t, nil)
	f.source.Refused = []pstate.Target{{Key: pstate.Key{PID: 5, StartTime: 5}, Process: "old",
		Source: pstate.SourceRefused, Reason: "Go 1.19 is older than 1.21"}}
	ctx := t.Context()
	now := time.Now().UnixNano()
	intervals := func(r *pb.IntervalsRequest) error {
		_, err := f.client.Intervals(ctx, connect.NewRequest(r))
		return err
	}
	watch := func(r *pb.WatchRequest) error {
		s, err := f.client.Watch(ctx, connect.NewRequest(r))
		if err != nil {
			return err
		}
		defer s.Close()
		s.Receive()
		return s.Err()
	}
	for name, c := range map[string]struct {
		err  error
		code connect.Code
		says string
	}{
		"range the wrong way round": {intervals(&pb.IntervalsRequest{StartUnixNano: now, EndUnixNano: now - 1e9}),
			connect.CodeInvalidArgument, "swap"},
		"empty range": {intervals(&pb.IntervalsRequest{StartUnixNano: now, EndUnixNano: now}),
			connect.CodeInvalidArgument, "swap"},
		"negative time": {intervals(&pb.IntervalsRequest{StartUnixNano: -5, EndUnixNano: now}),
			connect.CodeInvalidArgument, "1970"},
		"negative limit": {intervals(&pb.IntervalsRequest{MaxPerP: -1}), connect.CodeInvalidArgument,
			"max_per_p"},
		"bad expression": {intervals(&pb.IntervalsRequest{Selector: &pb.Selector{Process: "a(b"}}),
			connect.CodeInvalidArgument, "selector.process"},
		"expression that escapes": {intervals(&pb.IntervalsRequest{Selector: &pb.Selector{Process: "a)|(b"}}),
			connect.CodeInvalidArgument, "selector.process"},
		"unknown pid": {intervals(&pb.IntervalsRequest{Selector: &pb.Selector{Pids: []int32{424242}}}),
			connect.CodeNotFound, "ListTargets"},
		"unknown target": {intervals(
			&pb.IntervalsRequest{Selector: &pb.Selector{Targets: []*pb.TargetKey{{Pid: 1000, StartTime: 1}}}}),
			connect.CodeNotFound, "ended"},
		"refused pid": {watch(&pb.WatchRequest{Selector: &pb.Selector{Pids: []int32{5}}}),
			connect.CodeFailedPrecondition, "1.19"},
		"rate too high":   {watch(&pb.WatchRequest{RateHz: 1000}), connect.CodeInvalidArgument, "60"},
		"rate below zero": {watch(&pb.WatchRequest{RateHz: -1}), connect.CodeInvalidArgument, "60"},
	} {
		if connect.CodeOf(c.err) != c.code || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v; want code %v and the word %q", name, c.err, c.code, c.says)
		}
	}
}

func TestSelectorIsAnchored(t *testing.T) {
	for expr, want := range map[string]bool{"": true, "api": false, "api.*": true, "api-server|x": true,
		"x|api-server": true, ".*server": true} {
		m, err := NewMatcher(&pb.Selector{Process: expr})
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Target("h", &pstate.Target{Process: "api-server"}); got != want {
			t.Errorf("%q matches api-server: %v, want %v", expr, got, want)
		}
	}
}

func TestEndedTargetStaysListedWhileItsIntervalsAreHeld(t *testing.T) {
	f := serve(t, nil)
	now := time.Now().UnixNano()
	f.timeline.Append(f.source.Key(0),
		[]pstate.Interval{{P: 0, State: pstate.Running, Thread: pstate.OnCPU, Start: now - 2e9, End: now - 1e9}})
	list := func() map[string]*pb.Target {
		res, err := f.client.ListTargets(context.Background(), connect.NewRequest(&pb.ListTargetsRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		out := make(map[string]*pb.Target)
		for _, x := range res.Msg.Targets {
			out[x.Process] = x
		}
		return out
	}
	list()
	f.timeline.End(f.source.Key(0), now)
	f.source.End(0)
	f.source.End(1) // nothing of it is in the ring
	got := list()
	if x := got["server-0"]; x == nil || x.EndedUnixNano != now {
		t.Errorf("server-0: %v, want it listed as ended at %d", x, now)
	}
	if got["server-1"] != nil {
		t.Error("server-1 is listed though nothing of it is left")
	}
	res, err := f.client.Intervals(t.Context(),
		connect.NewRequest(&pb.IntervalsRequest{Selector: &pb.Selector{Pids: []int32{1000}}, StartUnixNano: now - 5e9,
			EndUnixNano: now}))
	if err != nil || len(res.Msg.Targets) != 1 {
		t.Errorf("intervals of an ended target: %v, %v", res, err)
	}
}

func TestDiagnose(t *testing.T) {
	f := serve(t, nil)
	f.source.Change(0, func(v *pstate.TargetView) {
		v.Threads = []pstate.ThreadView{{TID: 7, Comm: "server-0", P: 1, State: pstate.Uninterruptible}}
		v.Threads[0].Time[pstate.Uninterruptible] = 20 * time.Second
	})
	time.Sleep(2 * fresh)
	res, err := f.client.Diagnose(t.Context(),
		connect.NewRequest(&pb.DiagnoseRequest{StartUnixNano: time.Now().Add(-time.Minute).UnixNano()}))
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]bool)
	for _, x := range res.Msg.Findings {
		kinds[fmt.Sprintf("%s/%s", x.Process, x.Kind)] = true
		if x.Evidence == "" || x.Advice == "" || x.Severity == "" || x.Host != "test-host" {
			t.Errorf("incomplete: %v", x)
		}
	}
	if !kinds["server-0/imbalance"] {
		t.Errorf("P0 is busy all the time and P3 a quarter of it: got %v", kinds)
	}
	if b := res.Msg.Blocked; len(b) != 1 || b[0].Tid != 7 || b[0].LastP != 1 ||
		b[0].ThreadNanos[pb.ThreadState_THREAD_STATE_UNINTERRUPTIBLE] != 20e9 {
		t.Errorf("blocked: %v", b)
	}
}
