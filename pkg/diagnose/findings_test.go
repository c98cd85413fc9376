package diagnose

import (
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

const second = int64(time.Second)

// p makes a P that was busy the given share of the time and idle for the rest.
func p(id int32, busy float64, edit ...func(*PWindow)) PWindow {
	w := PWindow{P: id, QueueKnown: true, Busy: busy}
	w.State[pstate.Running], w.State[pstate.Idle] = busy, 1-busy
	w.Thread[pstate.OnCPU], w.Thread[pstate.NoThread] = busy, 1-busy
	for _, e := range edit {
		e(&w)
	}
	return w
}

func queue(n float64) func(*PWindow)  { return func(w *PWindow) { w.Queue = n } }
func dShare(s float64) func(*PWindow) { return func(w *PWindow) { w.Uninterruptible, w.Stuck = s, s } }

// lastInD: the P's last thread slept in D while the P was free.
func lastInD(s float64) func(*PWindow) { return func(w *PWindow) { w.Uninterruptible = s } }

// whileIdle: goroutines were queued while another P was idle, in this share of the looks.
func whileIdle(s, depth float64) func(*PWindow) {
	return func(w *PWindow) { w.QueueIdle, w.QueueIdleDepth, w.Looks = s, depth, 600 }
}

// sleepers are threads in uninterruptible sleep without a P at the end of a minute.
func sleepers(n int) (out []ThreadWindow) {
	for i := range n {
		th := ThreadWindow{WithoutP: true}
		th.TID, th.State, th.Since = int32(i), pstate.Uninterruptible, 40*second
		out = append(out, th)
	}
	return out
}
func runnable(s float64) func(*PWindow) {
	return func(w *PWindow) { w.Thread[pstate.Runnable] = s }
}
func wakeWait(s float64) func(*PWindow) { return func(w *PWindow) { w.WakeWait = s } }
func unknownQueue(w *PWindow)           { w.QueueKnown = false }
func dead(w *PWindow) {
	w.State = [pstate.NumStates]float64{pstate.Dead: 1}
}

func stop(at, d time.Duration) pstate.Stop {
	return pstate.Stop{Start: int64(at), End: int64(at + d), Reason: "GC mark termination",
		Arrivals: []pstate.Arrival{{P: 0, At: int64(at)}, {P: 2, At: int64(at + d/2)}}}
}

func TestFind(t *testing.T) {
	for name, c := range map[string]struct {
		ps    []PWindow
		stops []pstate.Stop
		ths   []ThreadWindow
		want  string   // kind/severity, in order
		says  []string // words in the evidence of the first
		value float64  // of the first
	}{
		"healthy":    {ps: []PWindow{p(0, .4), p(1, .35), p(2, .3), p(3, .2)}},
		"all asleep": {ps: []PWindow{p(0, 0), p(1, 0)}},
		"one P":      {ps: []PWindow{p(0, 1)}},
		"single-threaded program": {
			ps: []PWindow{p(0, 1), p(1, 0), p(2, 0)}, want: "imbalance/info", value: 1,
			says: []string{"P0 was busy 100 %", "variation over 3 Ps is 1.41"},
		},
		"work piles up on one P": {
			ps: []PWindow{p(0, .95, queue(6), whileIdle(.9, 6.5)), p(1, .1), p(2, .05)}, want: "overloaded/warning " +
				"idle/warning imbalance/warning", value: 6,
			says: []string{"P0 was busy 95 %", "6.0 goroutines"},
		},
		"every P saturated": {
			ps: []PWindow{p(0, 1, queue(20)), p(1, .99, queue(30))}, want: "overloaded/critical", value: 30,
			says: []string{"P1", "one more P"},
		},
		"queue not known": {ps: []PWindow{p(0, 1, queue(20), unknownQueue), p(1, .99, unknownQueue)}},
		"pinned in D": {
			ps: []PWindow{p(0, 1, dShare(1)), p(1, .5)}, want: "uninterruptible/critical", value: 1,
			says: []string{"P0 was held", "100 % of 1m0s."},
		},
		// What only looks like it.
		"two means that were not at the same time": {ps: []PWindow{p(0, .6, queue(10.6)), p(1, .18)}},
		"a queue on the P that is idle itself":     {ps: []PWindow{p(0, .6), p(1, .18, queue(10.6))}},
		"queued while another P was idle": {
			ps: []PWindow{p(0, .6, queue(4), whileIdle(.3, 10.6)), p(1, .4)}, want: "idle/warning", value: .3,
			says: []string{"In 30 % of 600 looks", "queued on P0, 10.6 on average, while another P was idle."},
		},
		"Ps that are free though their last threads sleep": {ps: []PWindow{p(0, .1, lastInD(.9)),
			p(1, .1, lastInD(.8))}},
		"threads in D without a P": {
			ps: []PWindow{p(0, .1, lastInD(.9)), p(1, .1)}, ths: sleepers(205), want: "uninterruptible/warning",
			says: []string{"205 threads are in uninterruptible sleep without a P", "the longest for 20s", "no P."},
		},
		"a thread in D without a P": {ps: []PWindow{p(0, .1), p(1, .1)}, ths: sleepers(1), want: "uninterruptible/info",
			says: []string{"One thread is"}},
		"six of eight Ps held": {
			ps: []PWindow{p(0, 1, dShare(1)), p(1, 1, dShare(1)), p(2, 1, dShare(1)), p(3, 1, dShare(1)),
				p(4, 1, dShare(1)), p(5, 1, dShare(.9)),
				p(6, .1, lastInD(1)), p(7, .1, dShare(.06))},
			want: "uninterruptible/critical", value: 1, says: []string{"5 more Ps are like it"},
		},
		"some D": {ps: []PWindow{p(0, .4, dShare(.3)), p(1, .4, dShare(.06))}, want: "uninterruptible/warning",
			value: .3},
		"a little D":     {ps: []PWindow{p(0, .4, dShare(.06)), p(1, .4)}, want: "uninterruptible/info", value: .06},
		"D below notice": {ps: []PWindow{p(0, .4, dShare(.04)), p(1, .4)}},
		"more Ps than CPUs": {
			ps: []PWindow{p(0, .6, runnable(.36), wakeWait(.22)), p(1, .6, runnable(.1))}, want: "cpu_wait/critical",
			value: .58,
			says:  []string{"58 %", "36 % runnable", "22 % from being handed over"},
		},
		"short waits": {ps: []PWindow{p(0, .6, runnable(.05), wakeWait(.07)), p(1, .6)}, want: "cpu_wait/warning",
			value: .12},
		"a long stop": {
			ps: []PWindow{p(0, .5), p(1, .5)}, stops: []pstate.Stop{stop(time.Second, 20*time.Millisecond)},
			want: "stops/warning",
			says: []string{"stopped 1 times", "20ms", "GC mark termination", "last to arrive was P2"}, value: 1. / 3000,
		},
		"many stops": {
			ps: []PWindow{p(0, .5), p(1, .5)}, stops: many(1000, 4*time.Millisecond), want: "stops/critical",
			value: 4. / 60, says: []string{"1000 times", "6.7 %"},
		},
		"few short stops": {ps: []PWindow{p(0, .5), p(1, .5)}, stops: many(10, 50*time.Microsecond)},
		"a stop that began before the window": {
			ps:    []PWindow{p(0, .5), p(1, .5)},
			stops: []pstate.Stop{stop(-10*time.Second, 10*time.Second+6*time.Second)}, want: "stops/critical",
			value: .1,
		},
		"dead Ps are no part of it": {ps: []PWindow{p(0, .9), p(1, .8), p(2, 0, dead)}},
	} {
		w := &Window{Start: 0, End: 60 * second, Ps: c.ps, Stops: c.stops, Threads: c.ths, GOMAXPROCS: int32(len(c.ps))}
		var got []string
		fs := Find(w)
		for _, f := range fs {
			got = append(got, string(f.Kind)+"/"+string(f.Severity))
			if !strings.HasSuffix(f.Evidence, ".") || !strings.HasSuffix(f.Advice, ".") {
				t.Errorf("%s: %s: no sentences: %q, %q", name, f.Kind, f.Evidence, f.Advice)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: found %q, want %q", name, s, c.want)
			continue
		}
		if len(fs) == 0 {
			continue
		}
		for _, word := range c.says {
			if !strings.Contains(fs[0].Evidence, word) {
				t.Errorf("%s: the evidence %q doesn't say %q", name, fs[0].Evidence, word)
			}
		}
		if d := fs[0].Value - c.value; d > 1e-9 || d < -1e-9 {
			t.Errorf("%s: value %v, want %v", name, fs[0].Value, c.value)
		}
	}
}

func many(n int, d time.Duration) (out []pstate.Stop) {
	for i := range n {
		out = append(out, stop(time.Duration(i)*50*time.Millisecond, d))
	}
	return out
}

func TestTooShortAWindowSaysNothing(t *testing.T) {
	w := &Window{Start: 0, End: second / 2, Ps: []PWindow{p(0, 1, dShare(1)), p(1, 0)}}
	if fs := Find(w); len(fs) != 0 {
		t.Errorf("half a second: %v", fs)
	}
}

// TestAdviceOnStopsFitsTheirReason: who calls runtime.GC is not helped by a higher GOGC, and the runtime's reason is
// the same for both.
func TestAdviceOnStopsFitsTheirReason(t *testing.T) {
	for reason, words := range map[string][]string{
		"GC mark termination": {"runtime.GC", "GOGC"},
		"read mem stats":      {`"read mem stats"`},
	} {
		w := &Window{Start: 0, End: 60 * second, Ps: []PWindow{p(0, .5), p(1, .5)}, GOMAXPROCS: 2}
		for _, s := range many(1000, 4*time.Millisecond) {
			s.Reason = reason
			w.Stops = append(w.Stops, s)
		}
		fs := Find(w)
		if len(fs) != 1 {
			t.Fatalf("%s: %v", reason, fs)
		}
		for _, word := range words {
			if !strings.Contains(fs[0].Advice, word) {
				t.Errorf("%s: the advice %q doesn't say %q", reason, fs[0].Advice, word)
			}
		}
		if reason == "read mem stats" && strings.Contains(fs[0].Advice, "GOGC") {
			t.Errorf("%s: the advice speaks of the collector: %q", reason, fs[0].Advice)
		}
	}
}
