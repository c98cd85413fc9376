//go:build linux

package history

import (
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// A state is stored under the time that its views are of, also where the agent got no CPU while it was gathered.
func TestAStateIsOfItsTime(t *testing.T) {
	due := time.Unix(1_000_000_000, 0)
	after := func(ds ...time.Duration) (s metrics.Snapshot) {
		for _, d := range ds {
			s.Views = append(s.Views, pstate.TargetView{At: due.Add(d).UnixNano()})
		}
		return s
	}
	ms := time.Millisecond
	for name, c := range map[string]struct {
		states []metrics.Snapshot
		want   time.Duration
		asked  int
	}{
		"on time":             {[]metrics.Snapshot{after(2*ms, 3*ms)}, 0, 1},
		"nothing is observed": {[]metrics.Snapshot{after()}, 0, 1},
		"late":                {[]metrics.Snapshot{after(900*ms, 901*ms)}, 901 * ms, 1},
		"far apart":           {[]metrics.Snapshot{after(2*ms, 700*ms), after(701*ms, 702*ms)}, 702 * ms, 2},
		"far apart, again and again": {[]metrics.Snapshot{
			after(2*ms, 700*ms), after(701*ms, 1702*ms), after(1703*ms, 2500*ms)}, 2500 * ms, 3},
		"the clock was set back": {[]metrics.Snapshot{after(-time.Hour)}, 0, 1},
		"the clock was set back amid": {[]metrics.Snapshot{after(1*ms, -time.Hour), after(-time.Hour, -time.Hour)}, 0,
			2},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			at, _ := gathered(due, func(time.Time) metrics.Snapshot {
				asked++
				return c.states[asked-1]
			})
			if at.Sub(due) != c.want || asked != c.asked {
				t.Errorf("stored %v after it was due, asked %d times; want %v, %d", at.Sub(due), asked, c.want, c.asked)
			}
		})
	}
}
