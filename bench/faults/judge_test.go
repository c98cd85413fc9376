//go:build linux

package main

import (
	"testing"
	"time"
)

// seconds makes samples at these seconds; two Ps sum to two seconds a second.
func seconds(at ...float64) (all []sample) {
	for _, s := range at {
		all = append(all, sample{at: time.Unix(1000, 0).Add(time.Duration(s * 1e9)), sum: 2 * s})
	}
	return all
}

func moment(s float64) time.Time { return seconds(s)[0].at }

func TestWhatIsLost(t *testing.T) {
	killed := fault{before: seconds(1, 2, 3), at: moment(3.2), down: moment(3.3), up: moment(3.6)}
	later := fault{before: seconds(1, 2, 3), at: moment(3.2), down: moment(5.3), up: moment(5.6)}
	running := fault{before: seconds(1, 2, 3), at: moment(3.2)}
	old := seconds(1, 2, 3)
	for i := range old {
		old[i].old = true
	}
	none := fault{before: old, at: moment(3.2)}
	for name, c := range map[string]struct {
		f     fault
		after []sample
		lost  int
		gap   float64
	}{
		"nothing":                           {running, seconds(1, 2, 3, 4, 5, 6), 0, 1},
		"a kill: the restart is no loss":    {killed, seconds(1, 2, 3, 7, 8, 9), 0, 4},
		"a kill that took the last two":     {killed, seconds(1, 7, 8, 9), 2, 6},
		"due before the kill, and not kept": {later, seconds(1, 2, 3, 8, 9), 2, 5},
		"due before the kill, and kept":     {later, seconds(1, 2, 3, 4, 5, 8, 9), 0, 3},
		"three missing, an agent ran":       {running, seconds(1, 2, 3, 7, 8), 3, 4},
		"a late one":                        {running, seconds(1, 2, 3, 4.4, 5, 6), 0, 1.4},
		"one before is gone":                {running, seconds(1, 3, 4, 5), 1, 1},
		"older than what is asked for now":  {running, seconds(2, 3, 4, 5), 0, 1},
		"no agent ran after the old ones":   {none, append(old, seconds(9, 10)...), 0, 1},
	} {
		if got := lost(c.f, c.after); got != c.lost {
			t.Errorf("%s: %d lost, want %d", name, got, c.lost)
		}
		if got := gap(c.f, c.after).Seconds(); got < c.gap-0.001 || got > c.gap+0.001 {
			t.Errorf("%s: a gap of %v, want %v", name, got, c.gap)
		}
	}
}

func TestWhatIsUntrue(t *testing.T) {
	all := seconds(1, 2, 3)
	if n := untrue(all, 2); n != 0 {
		t.Errorf("%d", n)
	}
	all[2].sum += 5
	if n := untrue(all, 2); n != 1 {
		t.Errorf("%d", n)
	}
	all[2].sum = 0 // another agent
	if n := untrue(all, 2); n != 0 {
		t.Errorf("%d", n)
	}
}
