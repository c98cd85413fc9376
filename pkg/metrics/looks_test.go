package metrics

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

func TestMeanOverLooks(t *testing.T) {
	const second = int64(time.Second)
	for name, c := range map[string]struct {
		atLeast time.Duration
		told    [][4]float64 // seconds, looks, sum, present depth
		want    []float64
	}{
		"since the sample before": {told: [][4]float64{{1, 10, 0, 0}, {2, 20, 5, 0}, {3, 30, 5, 7}},
			want: []float64{0, 0.5, 0}},
		"before the first look": {told: [][4]float64{{1, 0, 0, 3}, {2, 10, 20, 0}}, want: []float64{3, 2}},
		"no look since":         {told: [][4]float64{{1, 10, 10, 4}, {1.05, 10, 10, 4}}, want: []float64{1, 1}},
		"counted anew":          {told: [][4]float64{{1, 100, 50, 0}, {2, 10, 10, 0}}, want: []float64{0.5, 1}},
		"two readers that share": {atLeast: 900 * time.Millisecond,
			told: [][4]float64{{1, 10, 0, 0}, {2, 20, 10, 0}, {2.1, 21, 10, 0}, {3, 30, 30, 0}},
			want: []float64{0, 1, 0, 2}},
		"two readers that share, a burst between them": {atLeast: 900 * time.Millisecond,
			told: [][4]float64{{1, 10, 0, 0}, {1.5, 15, 10, 9}, {1.6, 16, 10, 0}, {2, 20, 10, 0}}, want: []float64{0, 2,
				10. / 6, 1}},
	} {
		var l looks
		for i, x := range c.told {
			got := l.mean(int64(x[0]*float64(second)), c.atLeast, uint64(x[1]), uint64(x[2]), x[3])
			if math.Abs(got-c.want[i]) > 1e-9 {
				t.Errorf("%s: %v is told as %v, want %v", name, x, got, c.want[i])
			}
		}
	}
}

// A burst between two samples, which is over when the second is taken, is in that sample.
func TestABurstBetweenSamplesIsInTheGauge(t *testing.T) {
	v := pstate.TargetView{Target: pstate.Target{Key: pstate.Key{PID: 1}, Process: "x"}, At: int64(time.Second),
		Ps: []pstate.PView{{}}}
	e := NewExposition("h", "1", func() Snapshot { return Snapshot{Views: []pstate.TargetView{v}} })
	v.Ps[0].RunqHist[0], v.GlobalRunqLooks = 10, 10
	scrape(t, e, "")
	v.At += int64(time.Second)
	v.Ps[0].RunqHist[0], v.Ps[0].RunqHist[pstate.RunqBucket(8)], v.Ps[0].RunqSum = 18, 2, 16
	v.GlobalRunqLooks, v.GlobalRunqSum = 20, 30
	_, text := scrape(t, e, "")
	for _, want := range []string{`pscope_p_runq_depth{host="h",process="x",process_pid="1",p="0"} 1.6`,
		`pscope_runq_depth{host="h",process="x",process_pid="1"} 3`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
}
