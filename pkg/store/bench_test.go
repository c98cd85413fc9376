package store

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/metrics"
)

// BenchmarkAppend is what a second of history costs: targets x 8 Ps.
func BenchmarkAppend(b *testing.B) {
	for _, targets := range []int{10, 100} {
		b.Run(fmt.Sprintf("targets=%d", targets), func(b *testing.B) {
			s := open(b, nil)
			src := viewtest.New(targets, 8, start)
			at := start.Add(time.Minute)
			snaps := make([]metrics.Snapshot, 64)
			for i := range snaps {
				snaps[i] = metrics.Snapshot{Views: src.Views(at.Add(time.Duration(i) * time.Second)), Targets: src.Targets(), Mode: "ebpf"}
			}
			i := 0
			next := func() {
				snap := snaps[i%len(snaps)]
				due := at.Add(time.Duration(i) * time.Second)
				for j := range snap.Views {
					snap.Views[j].At = due.UnixNano()
				}
				if err := s.Append(due, &snap); err != nil {
					b.Fatal(err)
				}
				i++
			}
			next()
			b.ReportAllocs()
			used := cpuTime()
			for b.Loop() {
				next()
			}
			b.ReportMetric(float64(cpuTime()-used)/float64(b.N)/1e9*100, "%core")
		})
	}
}

// BenchmarkHeatmap draws the busy share of 64 Ps over an hour, and over a day where PSCOPE_BENCH_DAY is set, on a
// thousand pixels. The day is filled with a raw sample every 5 s, to fill it sooner: its queries read the coarse samples, of which
// there are as many as ever.
func BenchmarkHeatmap(b *testing.B) {
	hours := []int{1}
	if os.Getenv("PSCOPE_BENCH_DAY") != "" {
		hours = append(hours, 24)
	}
	for _, h := range hours {
		s := open(b, func(o *Options) {
			o.MaxBytes = -1
			if h > 1 {
				o.Interval = 5 * time.Second
			}
		})
		end := start.Add(time.Duration(h)*time.Hour + 5*time.Minute)
		began := time.Now()
		fill(b, s, viewtest.New(1, 64, start), start, end)
		b.Logf("%d h of 64 Ps appended in %v", h, time.Since(began).Round(time.Second))
		step := time.Duration(h) * time.Hour / 1000
		step = max(step.Truncate(time.Second), time.Second)
		window := max(step, 4*time.Second)
		exprs := map[string]string{
			"busy":    fmt.Sprintf(`sum by (p) (rate(pscope_p_seconds_total{process="server-0",state=~"running|gc|syscall"}[%ds]))`, int(window.Seconds())),
			"dshare":  fmt.Sprintf(`rate(pscope_p_uninterruptible_seconds_total{process="server-0"}[%ds])`, int(window.Seconds())),
			"runq":    fmt.Sprintf(`avg_over_time(pscope_p_runq_depth{process="server-0"}[%ds])`, int(window.Seconds())),
			"runqmax": fmt.Sprintf(`max_over_time(pscope_p_runq_depth{process="server-0"}[%ds])`, int(window.Seconds())),
		}
		if h > 1 {
			delete(exprs, "runqmax") // reads the raw samples
		}
		for name, expr := range exprs {
			b.Run(fmt.Sprintf("%dh/%s", h, name), func(b *testing.B) {
				used := cpuTime()
				for b.Loop() {
					q, err := s.Engine().NewRangeQuery(context.Background(), s.Queryable(), nil, expr, end.Add(-time.Duration(h)*time.Hour), end.Add(-time.Second), step)
					if err != nil {
						b.Fatal(err)
					}
					m, err := q.Exec(context.Background()).Matrix()
					if err != nil || len(m) != 64 || len(m[0].Floats) < 900 {
						b.Fatalf("%d series, %v", len(m), err)
					}
					q.Close()
				}
				b.ReportMetric(float64(cpuTime()-used)/float64(b.N)/1e6, "cpu-ms/op")
			})
		}
	}
}

// BenchmarkMemory is the resident memory after PSCOPE_BENCH_HOURS of history (default: a tenth) of 10 and 100 targets x 8 Ps.
func BenchmarkMemory(b *testing.B) {
	hours := 0.1
	if v, err := strconv.ParseFloat(os.Getenv("PSCOPE_BENCH_HOURS"), 64); err == nil {
		hours = v
	}
	for _, targets := range []int{10, 100} {
		b.Run(fmt.Sprintf("targets=%d", targets), func(b *testing.B) {
			s := open(b, nil)
			src := viewtest.New(targets, 8, start)
			end := start.Add(time.Duration(hours * float64(time.Hour)))
			for b.Loop() { // resets the metrics, so it comes first
			}
			used := cpuTime()
			fill(b, s, src, start, end)
			took := cpuTime() - used
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapAlloc)/1e6, "heapMB")
			b.ReportMetric(anonymous(b)/1e3, "anonMB")
			b.ReportMetric(float64(s.raw.db.Head().NumSeries()), "series")
			b.ReportMetric(took.Seconds()/end.Sub(start).Seconds()*100, "%core")
			var disk int64
			disk += blockBytes(s) + s.raw.db.Head().Size()
			b.ReportMetric(float64(disk)/hours/1e6*24, "diskMB/day")
		})
	}
}

// cpuTime is what this process has used of the CPUs: on a busy machine the clock says little.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func anonymous(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kb
		}
	}
	return 0
}
