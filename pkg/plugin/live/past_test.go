package live

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
)

func TestPast(t *testing.T) {
	lane := func(p int) data.Labels { return data.Labels{"p": strconv.Itoa(p)} }
	numbers := func(ls []data.Labels) (out []string) {
		for _, l := range ls {
			out = append(out, l["p"])
		}
		slices.Sort(out)
		return out
	}
	start := time.Unix(1000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	past := NewPast(10 * time.Second)
	past.Saw(lane(1), at(-5)) // from history
	past.Saw(lane(2), at(0))
	for _, c := range []struct {
		at      int
		present []data.Labels
		ended   []string
		left    bool
	}{
		// the last value of 2 has the time of this row, but is not in it
		{0, []data.Labels{lane(3)}, []string{"1", "2"}, false},
		{1, []data.Labels{lane(2), lane(3)}, []string{"1"}, false},
		{5, []data.Labels{lane(3)}, []string{"1", "2"}, false},
		{6, []data.Labels{lane(3)}, []string{"2"}, true}, // 1 has left the range
		{7, nil, []string{"2", "3"}, false},
		{12, nil, []string{"3"}, true},
		{17, nil, nil, true},
		{18, nil, nil, false},
	} {
		ended, left := past.Ended(at(c.at), c.present)
		if !slices.Equal(numbers(ended), c.ended) || left != c.left {
			t.Errorf("second %d: ended %v, left %v; want %v, %v", c.at, numbers(ended), left, c.ended, c.left)
		}
	}
}

func TestPastIsBounded(t *testing.T) {
	past := NewPast(time.Hour)
	for i := range 2 * maxLanes {
		past.Saw(data.Labels{"p": strconv.Itoa(i)}, time.Unix(int64(i), 0))
	}
	present := []data.Labels{{"p": "now"}}
	ended, _ := past.Ended(time.Unix(2*maxLanes, 0), present)
	if len(ended)+len(present) != maxLanes {
		t.Fatalf("%d lanes, want %d", len(ended)+len(present), maxLanes)
	}
	for _, l := range ended {
		if n, _ := strconv.Atoi(l["p"]); n <= maxLanes {
			t.Fatalf("lane %d ended before others that are left out", n)
		}
	}
}
