package frames

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/pstate"
)

func TestNames(t *testing.T) {
	l := func(kv ...string) data.Labels {
		out := data.Labels{}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i]] = kv[i+1]
		}
		return out
	}
	for _, c := range []struct {
		sets []data.Labels
		want []string
	}{
		{[]data.Labels{l("process", "a", "p", "3"), l("process", "a", "p", "4")}, []string{"P3", "P4"}},
		{[]data.Labels{l("process", "a", "p", "3"), l("process", "b", "p", "3")}, []string{"a P3", "b P3"}},
		{[]data.Labels{l("process", "a", "process_pid", "1", "p", "3"), l("process", "a", "process_pid", "2", "p", "3")}, []string{"1 P3", "2 P3"}},
		{[]data.Labels{l("host", "x", "process", "a", "p", "3"), l("host", "y", "process", "a", "p", "3")}, []string{"x P3", "y P3"}},
		{[]data.Labels{l("p", "3", "state", "running"), l("p", "3", "state", "gc")}, []string{"P3 running", "P3 gc"}},
		{[]data.Labels{l("process", "a")}, []string{"a"}},
		{[]data.Labels{l("host", "x"), l("host", "y")}, []string{"x", "y"}},
		{[]data.Labels{l()}, []string{"alone"}},
		{[]data.Labels{l("job", "j", "zone", "1"), l("job", "j", "zone", "2")}, []string{"1", "2"}},
		{[]data.Labels{l("cpu", "0"), l("cpu", "1")}, []string{"CPU 0", "CPU 1"}},
	} {
		if got := Names(c.sets, "alone"); !slices.Equal(got, c.want) {
			t.Errorf("%v: %q, want %q", c.sets, got, c.want)
		}
	}
}

// However many spans there are, no more than the limit come out, they stay in order and in range, and a rare shade is never lost.
func TestReduce(t *testing.T) {
	palette := StatePalette()
	gcstop := palette.Shade(pstate.GCStop, pstate.NoThread)
	for range 200 {
		n, limit := 1+rand.IntN(3000), 2+rand.IntN(300)
		var in []Span
		at := int64(1000)
		hasRare := false
		for range n {
			if rand.IntN(10) == 0 {
				at += rand.Int64N(50)
			}
			s := Span{Start: at, End: at + 1 + rand.Int64N(1000), Shade: Shade(rand.IntN(4))}
			if rand.IntN(500) == 0 {
				s.Shade, hasRare = gcstop, true
				s.End = s.Start + 1
			}
			in, at = append(in, s), s.End
		}
		out := Reduce(slices.Clone(in), limit, palette)
		if len(out) > limit || len(out) == 0 || out[0].Start != in[0].Start || out[len(out)-1].End > in[len(in)-1].End {
			t.Fatalf("%d spans became %d, limit %d", n, len(out), limit)
		}
		if hasRare != slices.ContainsFunc(out, func(s Span) bool { return s.Shade == gcstop }) && limit > 8 {
			t.Fatalf("%d spans, limit %d: gcstop in %v, out %v", n, limit, hasRare, !hasRare)
		}
		for i, s := range out {
			if s.Start >= s.End || i > 0 && s.Start < out[i-1].End {
				t.Fatalf("span %d is %v after %v", i, s, out[max(0, i-1)])
			}
		}
	}
}

func TestIntervalsOfUnequalColumns(t *testing.T) {
	got := Intervals(&pscopev1.PIntervals{P: 3, BaseUnixNano: 100, GapNanos: []uint64{0, 5}, DurationNanos: []uint64{10, 20, 30}, Code: []uint32{2 | 4<<4, 1 | 1<<8, 9}})
	want := []pstate.Interval{
		{P: 3, State: pstate.Running, Thread: pstate.OnCPU, Start: 100, End: 110},
		{P: 3, State: pstate.Idle, Merged: true, Start: 115, End: 135},
	}
	want[0].Thread = ThreadState(4)
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

// What an agent of a later version knows, and this plugin does not, is a gap and nothing else.
func TestIntervalsOfUnknownStates(t *testing.T) {
	got := Intervals(&pscopev1.PIntervals{P: 1, GapNanos: []uint64{0, 0, 0}, DurationNanos: []uint64{10, 10, 10},
		Code: []uint32{2, 15, 2 | 15<<4}})
	want := []pstate.Interval{
		{P: 1, State: pstate.Running, Start: 0, End: 10},
		{P: 1, State: pstate.Running, Start: 20, End: 30},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestWireStates(t *testing.T) {
	for _, s := range pstate.States() {
		if stateOf[WireState(s)] != s {
			t.Errorf("%v does not come back", s)
		}
	}
	for _, s := range pstate.ThreadStates() {
		if ThreadState(WireThreadState(s)) != s {
			t.Errorf("%v does not come back", s)
		}
	}
}

func TestSharesAreAtMostOne(t *testing.T) {
	curve := func() []Curve {
		return []Curve{{Times: []time.Time{time.Unix(1, 0), time.Unix(2, 0)}, Values: []float64{1.002, -0.001}}}
	}
	look := Look{Name: "d_share", Step: time.Second, Share: true}
	for name, f := range map[string]*data.Field{"series": Series(curve(), look)[0].Fields[1], "wide": Wide(curve(), look).Fields[1]} {
		for i, want := range []float64{1, 0} {
			if v, err := f.FloatAt(i); err != nil || v != want {
				t.Errorf("%s: %v (%v), want %v", name, v, err, want)
			}
		}
	}
}
