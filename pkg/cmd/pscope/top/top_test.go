//go:build linux

package top

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
	"github.com/p-scope/p-scope/pkg/pstate"
)

const second = uint64(time.Second)

// pnow is a P that has been in the given states for so many seconds.
func pnow(p int32, state pscopev1.PState, thread pscopev1.ThreadState, running, idle, d uint64) *pscopev1.PNow {
	n := &pscopev1.PNow{P: p, State: state, ThreadState: thread, SinceUnixNano: 1, RunqDepth: 3,
		StateNanos: make([]uint64, 7), ThreadNanos: make([]uint64, 7)}
	n.StateNanos[pscopev1.PState_P_STATE_RUNNING], n.StateNanos[pscopev1.PState_P_STATE_IDLE] = running*second,
		idle*second
	n.UninterruptibleNanos = d * second
	return n
}

func message(atSeconds int64, us ...*pscopev1.TargetUpdate) *pscopev1.WatchResponse {
	return &pscopev1.WatchResponse{AtUnixNano: atSeconds * int64(second), Targets: us}
}

func update(pid int32, name string, ps ...*pscopev1.PNow) *pscopev1.TargetUpdate {
	return &pscopev1.TargetUpdate{
		Target: &pscopev1.Target{Key: &pscopev1.TargetKey{Pid: pid, StartTime: 7}, Process: name, GoVersion: "go1.26.8",
			Source: "ebpf", Layout: "table", Gomaxprocs: 2, Host: "h"},
		Ps: ps, GlobalRunqDepth: -1,
	}
}

func TestSharesAreThoseOfTheWindow(t *testing.T) {
	b := newBoard()
	// Ten seconds of work long ago must not show in a P that has been idle since.
	for at := int64(100); at <= 110; at++ {
		b.apply(message(at, update(1, "a", pnow(0, pscopev1.PState_P_STATE_IDLE, pscopev1.ThreadState_THREAD_STATE_NONE,
			10, uint64(at), 0))))
	}
	p := b.targets[key{pid: 1, start: 7}].ps[0]
	if s := p.shares(); !s.known || s.busy() != 0 || s.state[pstate.Idle] != 1 {
		t.Errorf("shares are %+v, want all idle", s)
	}
	if n := len(p.samples); n > 4 {
		t.Errorf("%d samples are kept for a window of two seconds", n)
	}
	b.apply(message(111, update(1, "a",
		pnow(0, pscopev1.PState_P_STATE_RUNNING, pscopev1.ThreadState_THREAD_STATE_UNINTERRUPTIBLE, 11, 110, 1))))
	if s := p.shares(); s.busy() != 0.5 || s.d != 0.5 {
		t.Errorf("busy %v and D %v of the last two seconds, want half", s.busy(), s.d)
	}
	if p.state != pstate.Running || p.thread != pstate.Uninterruptible {
		t.Errorf("state %v, thread %v: the API's numbers are not the words' numbers", p.state, p.thread)
	}
}

func TestFirstSampleIsNotAMeasurement(t *testing.T) {
	b := newBoard()
	b.apply(message(100, update(1, "a",
		pnow(0, pscopev1.PState_P_STATE_RUNNING, pscopev1.ThreadState_THREAD_STATE_RUNNING, 50, 50, 0))))
	text := strings.Join(b.lines(view{order: byBusy, paint: unpainted}), "\n")
	if !strings.Contains(text, "busy -") || strings.Contains(text, "0%") {
		t.Errorf("one sample gives no shares, but the table is\n%s", text)
	}
}

func TestEndedAndResyncedTargetsLeave(t *testing.T) {
	b := newBoard()
	b.apply(message(1, update(1, "a"), update(2, "b")))
	end := update(1, "")
	end.Ended = true
	b.apply(message(2, end))
	if len(b.targets) != 1 {
		t.Errorf("%d targets after one of two has ended", len(b.targets))
	}
	m := message(3, update(3, "c"))
	m.Resync = true
	b.apply(m)
	if len(b.targets) != 1 || b.targets[key{pid: 3, start: 7}] == nil {
		t.Errorf("after a resync the board holds %v", b.targets)
	}
}

func TestLaterMentionsKeepWhatIsKnown(t *testing.T) {
	b := newBoard()
	b.apply(message(1, update(1, "a")))
	b.apply(message(2, update(1, ""))) // only the key is set
	if got := b.targets[key{pid: 1, start: 7}].info.GetProcess(); got != "a" {
		t.Errorf("the name is %q after a message without it", got)
	}
}

func TestOrders(t *testing.T) {
	b := newBoard()
	for at := int64(1); at <= 2; at++ {
		u := uint64(at)
		busy := update(1, "busy", pnow(0, 2, 3, u, 0, 0))
		blocked := update(2, "blocked", pnow(0, 2, 3, 0, u, u))
		queued := update(3, "abc", pnow(0, 2, 3, 0, u, 0))
		queued.GlobalRunqDepth = 500
		stopping := update(4, "stopping", pnow(0, 2, 3, 0, u, 0))
		stopping.Stops = []*pscopev1.Stop{{StartUnixNano: at*int64(second) - 1e6, EndUnixNano: at * int64(second),
			Reason: "x"}}
		b.apply(message(at, busy, blocked, queued, stopping))
	}
	b.targets[key{pid: 4, start: 7}].stops[0].length = time.Second
	for o, want := range map[order]string{byBusy: "busy", byD: "blocked", byRunq: "abc", byStops: "stopping",
		byName: "abc"} {
		if got := b.sorted(o)[0].info.GetProcess(); got != want {
			t.Errorf("by %s the first is %s, want %s", o, got, want)
		}
	}
}

func TestBarIsAlwaysFull(t *testing.T) {
	for _, s := range []shares{
		{known: true, state: [pstate.NumStates]float64{pstate.Running: 1. / 3, pstate.GC: 1. / 3, pstate.Idle: 1. / 3}},
		{known: true, state: [pstate.NumStates]float64{pstate.Running: 0.999, pstate.Idle: 0.001}},
		// torn between two readings
		{known: true, state: [pstate.NumStates]float64{pstate.Running: 0.7, pstate.Syscall: 0.7}},
		{},
	} {
		if n := len([]rune(bar(s, unpainted))); n != barWidth {
			t.Errorf("the bar of %v is %d wide", s.state, n)
		}
	}
}

func TestBriefFits(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0ns", 950: "950ns", 26400 * time.Microsecond: "26ms",
		1300 * time.Millisecond: "1.3s", 61 * time.Second: "1m01s", 26 * time.Hour: "26h00m",
		100 * 24 * time.Hour: "100d"} {
		if got := brief(d); got != want || len(got) > 8 {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}

func TestHeightIsKept(t *testing.T) {
	b := newBoard()
	for pid := range int32(40) {
		b.apply(message(1, update(pid, "a", pnow(0, 1, 1, 0, 0, 0))))
	}
	lines := b.lines(view{order: byName, paint: unpainted, height: 10})
	if len(lines) != 10 || !strings.Contains(lines[9], "more lines") {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

// fakeAgent streams one busy P.
type fakeAgent struct {
	pscopev1connect.UnimplementedScopeServiceHandler
}

func (fakeAgent) ListTargets(context.Context, *connect.Request[pscopev1.ListTargetsRequest]) (
	*connect.Response[pscopev1.ListTargetsResponse], error) {
	return connect.NewResponse(&pscopev1.ListTargetsResponse{Targets: []*pscopev1.Target{{Source: "refused"},
		{Source: "ebpf"}}}), nil
}

func (fakeAgent) Watch(ctx context.Context, _ *connect.Request[pscopev1.WatchRequest],
	s *connect.ServerStream[pscopev1.WatchResponse]) error {
	for i := int64(1); ; i++ {
		if err := s.Send(message(i, update(1, "worker", pnow(0, 2, 3, uint64(i), 0, 0)))); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func serveFake(t *testing.T, socket string) *http.Server {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(pscopev1connect.NewScopeServiceHandler(fakeAgent{}))
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return srv
}

func newWatcher(t *testing.T, socket string) *watcher {
	t.Helper()
	o := &client.Options{Socket: socket}
	c, err := o.Dial()
	if err != nil {
		t.Fatal(err)
	}
	return &watcher{client: c, agent: o, request: &pscopev1.WatchRequest{}}
}

func TestOnceOverASocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	serveFake(t, socket)
	var out bytes.Buffer
	if err := once(t.Context(), newWatcher(t, socket), options{order: byBusy}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"P-Scope on h", "1 observed, 1 refused", "worker", "100%"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestOnceWithoutAnAgentSaysWhatToDo(t *testing.T) {
	err := once(t.Context(), newWatcher(t, filepath.Join(t.TempDir(), "s")), options{order: byBusy}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "sudo pscope agent") {
		t.Errorf("error is %v", err)
	}
}

// An agent that goes away in mid-stream is said to be gone, and found again when it comes back.
func TestAgentGoesAndComesBack(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	srv := serveFake(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ch := make(chan news)
	go newWatcher(t, socket).run(ctx, ch)
	wait := func(what string, good func(news) bool) {
		t.Helper()
		for {
			select {
			case n := <-ch:
				if good(n) {
					return
				}
			case <-ctx.Done():
				t.Fatalf("no %s came: %v", what, errors.Join(ctx.Err()))
			}
		}
	}
	wait("message", func(n news) bool { return n.message != nil && n.message.GetResync() })
	_ = srv.Close()
	wait("error", func(n news) bool { return n.err != nil })
	serveFake(t, socket)
	wait("new start", func(n news) bool { return n.message != nil && n.message.GetResync() })
}

func TestBadFlags(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--sort", "age"}, "choose busy"},
		{[]string{"--rate", "100"}, "at most 60"},
		{[]string{"--process", "("}, "regular expression"},
		{[]string{"x"}, "unexpected argument"},
	} {
		if _, err := parse(tc.args); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v gives %v, want %q", tc.args, err, tc.want)
		}
	}
}
