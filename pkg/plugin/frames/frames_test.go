package frames

import (
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// The browser names and orders live rows by the same cases.
func TestNamesAsTheBrowserDoes(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "tools", "contract", "cases", "names.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases struct {
		Names []struct {
			About  string        `json:"about"`
			Labels []data.Labels `json:"labels"`
			Names  []string      `json:"names"`
		} `json:"names"`
		Legends []struct {
			Template string      `json:"template"`
			Labels   data.Labels `json:"labels"`
			Name     string      `json:"name"`
		} `json:"legends"`
		Order []struct {
			About   string        `json:"about"`
			Ordered []data.Labels `json:"ordered"`
		} `json:"order"`
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases.Names {
		if got := Names(c.Labels, "alone"); !slices.Equal(got, c.Names) {
			t.Errorf("%s: %q, want %q", c.About, got, c.Names)
		}
	}
	for _, c := range cases.Legends {
		if got := legend(c.Template, c.Labels); got != c.Name {
			t.Errorf("%q: %q, want %q", c.Template, got, c.Name)
		}
	}
	for _, c := range cases.Order {
		for i, a := range c.Ordered {
			for j, b := range c.Ordered {
				if got, want := byLabels(a, b), cmp.Compare(i, j); got != want {
					t.Errorf("%s: %v and %v: %d, want %d", c.About, a, b, got, want)
				}
			}
		}
	}
}

// However many spans there are, no more than the limit come out, they stay in order and in range, and a rare shade is
// never lost.
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
	got := Intervals(&pscopev1.PIntervals{P: 3, BaseUnixNano: 100, GapNanos: []uint64{0, 5},
		DurationNanos: []uint64{10, 20, 30}, Code: []uint32{2 | 4<<4, 1 | 1<<8, 9}})
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

func TestSharesAreAtMostOne(t *testing.T) {
	curve := func() []Curve {
		return []Curve{{Times: []time.Time{time.Unix(1, 0), time.Unix(2, 0)}, Values: []float64{1.002, -0.001}}}
	}
	look := Look{Name: "d_share", Step: time.Second, Share: true}
	for name, f := range map[string]*data.Field{"series": Series(curve(), look)[0].Fields[1],
		"wide": Wide(curve(), look).Fields[1]} {
		for i, want := range []float64{1, 0} {
			if v, err := f.FloatAt(i); err != nil || v != want {
				t.Errorf("%s: %v (%v), want %v", name, v, err, want)
			}
		}
	}
}
