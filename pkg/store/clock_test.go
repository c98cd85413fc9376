package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/metrics"
)

// host is a machine whose wall clock can be set, with an agent that opens its history anew when that is asked for.
type host struct {
	t     *testing.T
	dir   string
	wall  time.Time
	up    time.Duration
	src   *viewtest.Source
	store *Store
	seen  []string // conditions of stores that were closed
}

func newHost(t *testing.T, at time.Time) *host {
	h := &host{t: t, dir: t.TempDir(), wall: at, src: viewtest.New(1, 2, at.Add(-60*24*time.Hour))}
	h.open()
	t.Cleanup(func() { _ = h.store.Close() })
	return h
}

func (h *host) open() {
	h.t.Helper()
	var err error
	h.store, err = Open(Options{Dir: h.dir, Host: "h", Now: func() time.Time {
		return h.wall
	}, Elapsed: func() time.Duration { return h.up }})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) restart() {
	h.t.Helper()
	for _, c := range h.store.Conditions() {
		h.seen = append(h.seen, c.Why)
	}
	if err := h.store.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.open()
}

// run lets time pass, with a state a second. It gives how many were refused.
func (h *host) run(d time.Duration) (refused int) {
	h.t.Helper()
	for range int(d / time.Second) {
		h.wall, h.up = h.wall.Add(time.Second), h.up+time.Second
		for try := range 3 {
			snap := metrics.Snapshot{Views: h.src.Views(h.wall)}
			err := h.store.Append(h.wall, &snap)
			if errors.Is(err, ErrReopen) && try < 2 {
				h.restart()
				continue
			}
			if err != nil {
				h.t.Log(h.wall.UTC(), err)
				refused++
			}
			break
		}
	}
	return refused
}

func (h *host) set(by time.Duration) { h.wall = h.wall.Add(by) }

// states counts the samples of one series in the d before at.
func (h *host) states(at time.Time, d time.Duration) int {
	h.t.Helper()
	v := instant(h.t, h.store, at, `count_over_time(go_runtime_gomaxprocs[`+d.String()+`])`)
	if len(v) == 0 {
		return 0
	}
	return int(v[0].F)
}

func (h *host) named(part string) bool {
	for _, c := range h.store.Conditions() {
		h.seen = append(h.seen, c.Why)
	}
	return strings.Contains(strings.Join(h.seen, "\n"), part)
}

// The clock is set an hour forward, and back after some time: there are data within seconds each time, none of them in
// the future, and a restart refuses none.
func TestClockForwardAndBack(t *testing.T) {
	for _, ahead := range []time.Duration{2 * time.Minute, 100 * time.Minute} { // in the log alone, and in blocks too
		t.Run(ahead.String(), func(t *testing.T) {
			h := newHost(t, start)
			h.run(10 * time.Minute)
			right := h.wall
			h.set(time.Hour)
			if n := h.run(ahead); n > 0 {
				t.Errorf("%d states were refused after the clock went forward", n)
			}
			if n := h.states(h.wall, 10*time.Second); n < 9 {
				t.Errorf("after the clock went forward 10 seconds have %d states", n)
			}
			if !h.named("went forward by 1h0m0s") {
				t.Errorf("the gap is not named: %q", h.seen)
			}
			if err := h.store.raw.db.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.set(-time.Hour)
			if n := h.run(20 * time.Second); n > 0 {
				t.Errorf("%d states were refused after the clock went back", n)
			}
			if n := h.states(h.wall, 10*time.Second); n < 9 {
				t.Errorf("after the clock went back 10 seconds have %d states", n)
			}
			if !h.named("set back") {
				t.Errorf("that the clock went back is not named: %q", h.seen)
			}
			if n := h.states(right, 5*time.Minute); n < 295 {
				t.Errorf("of the five minutes before the clock was wrong %d states are left", n)
			}
			if n := h.states(h.wall.Add(3*time.Hour), 3*time.Hour); n > 1 {
				t.Errorf("%d states lie in the future", n)
			}
			if got := value(t, h.store, h.wall, `sum(rate(pscope_p_seconds_total[10s]))`); got < 1.99 || got > 2.01 {
				t.Errorf("rate is %v, want 2", got)
			}
			h.restart()
			if n := h.run(time.Minute); n > 0 {
				t.Errorf("%d states were refused after a restart", n)
			}
			if n := h.states(h.wall, time.Minute); n < 59 {
				t.Errorf("the minute after a restart has %d states", n)
			}
			if lost := h.store.Losses()["history_refused"]; lost > 0 {
				t.Errorf("%d samples were refused", lost)
			}
		})
	}
}

// An agent that starts after the clock was set back finds a history that reaches into the future.
func TestRestartAfterTheClockWentBack(t *testing.T) {
	h := newHost(t, start)
	h.run(5 * time.Minute)
	h.set(time.Hour)
	h.run(time.Minute)
	h.set(-time.Hour)
	h.restart()
	if n := h.run(time.Minute); n > 0 {
		t.Errorf("%d states were refused", n)
	}
	if n := h.states(h.wall, time.Minute); n < 59 {
		t.Errorf("the first minute has %d states", n)
	}
}

// A clock that is put right by seconds, as time services do, makes a gap of as many and nothing else.
func TestClockPutRightBySeconds(t *testing.T) {
	h := newHost(t, start)
	h.run(time.Minute)
	h.set(-3 * time.Second)
	before := h.store
	h.run(30 * time.Second)
	if h.store != before {
		t.Error("for three seconds the history was opened anew")
	}
	if n := h.states(h.wall, 20*time.Second); n < 19 {
		t.Errorf("20 seconds have %d states", n)
	}
	if n := h.store.Losses()["history_clock_back"]; n == 0 {
		t.Error("the states of three seconds are not counted as missing")
	}
}

// A machine without a battery for its clock begins in the past. When its clock is right, what was kept is there again.
func TestClockBehindAtTheStart(t *testing.T) {
	h := newHost(t, start)
	h.run(20 * time.Minute)
	good := h.wall
	away := 30 * 24 * time.Hour
	h.set(-away)
	h.restart()
	if n := h.run(30 * time.Second); n > 0 {
		t.Errorf("%d states were refused while the clock was behind", n)
	}
	if n := h.states(h.wall, 20*time.Second); n < 19 {
		t.Errorf("while the clock is behind 20 seconds have %d states", n)
	}
	h.set(away + time.Minute)
	if n := h.run(30 * time.Second); n > 0 {
		t.Errorf("%d states were refused when the clock was right", n)
	}
	if n := h.states(h.wall, 20*time.Second); n < 19 {
		t.Errorf("when the clock is right 20 seconds have %d states", n)
	}
	if n := h.states(good, 10*time.Minute); n < 595 {
		t.Errorf("of ten minutes before %d states are left", n)
	}
}
