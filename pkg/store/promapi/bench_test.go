package promapi

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/store"
)

// BenchmarkHeatmap draws the busy share of 64 Ps over an hour, and over a day where PSCOPE_BENCH_DAY is set, on a
// thousand pixels. The day is filled with a raw sample every 5 s, to fill it sooner: its queries read the coarse
// samples, of which there are as many as ever.
func BenchmarkHeatmap(b *testing.B) {
	hours := []int{1}
	if os.Getenv("PSCOPE_BENCH_DAY") != "" {
		hours = append(hours, 24)
	}
	for _, h := range hours {
		so := store.Options{MaxBytes: -1}
		if h > 1 {
			so.Interval = 5 * time.Second
		}
		a, s := openWith(b, so, Options{})
		engine := a.budget.classes[len(a.budget.classes)-1].engine
		end := start.Add(time.Duration(h)*time.Hour + 5*time.Minute)
		began := time.Now()
		fill(b, s, viewtest.New(1, 64, start), start, end)
		b.Logf("%d h of 64 Ps appended in %v", h, time.Since(began).Round(time.Second))
		step := time.Duration(h) * time.Hour / 1000
		step = max(step.Truncate(time.Second), time.Second)
		window := max(step, 4*time.Second)
		exprs := map[string]string{
			"busy": fmt.Sprintf(
				`sum by (p) (rate(pscope_p_seconds_total{process="server-0",state=~"running|gc|syscall"}[%ds]))`,
				int(window.Seconds())),
			"dshare": fmt.Sprintf(`rate(pscope_p_uninterruptible_seconds_total{process="server-0"}[%ds])`,
				int(window.Seconds())),
			"runq": fmt.Sprintf(`avg_over_time(pscope_p_runq_depth{process="server-0"}[%ds])`,
				int(window.Seconds())),
			"runqmax": fmt.Sprintf(`max_over_time(pscope_p_runq_depth{process="server-0"}[%ds])`,
				int(window.Seconds())),
		}
		if h > 1 {
			delete(exprs, "runqmax") // reads the raw samples
		}
		for name, expr := range exprs {
			b.Run(fmt.Sprintf("%dh/%s", h, name), func(b *testing.B) {
				used := fuzztest.CPUTime()
				for b.Loop() {
					q, err := engine.NewRangeQuery(context.Background(), s.Queryable(), nil, expr,
						end.Add(-time.Duration(h)*time.Hour), end.Add(-time.Second), step)
					if err != nil {
						b.Fatal(err)
					}
					m, err := q.Exec(context.Background()).Matrix()
					if err != nil || len(m) != 64 || len(m[0].Floats) < 900 {
						b.Fatalf("%d series, %v", len(m), err)
					}
					q.Close()
				}
				b.ReportMetric(float64(fuzztest.CPUTime()-used)/float64(b.N)/1e6, "cpu-ms/op")
			})
		}
	}
}
