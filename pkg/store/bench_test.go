package store

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
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
				snaps[i] = metrics.Snapshot{Views: src.Views(at.Add(time.Duration(i) * time.Second)),
					Targets: src.Targets(), Mode: "ebpf"}
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
			used := fuzztest.CPUTime()
			for b.Loop() {
				next()
			}
			b.ReportMetric(float64(fuzztest.CPUTime()-used)/float64(b.N)/1e9*100, "%core")
		})
	}
}

// BenchmarkMemory is the resident memory after PSCOPE_BENCH_HOURS of history (default: a tenth) of 10 and 100 targets x
// 8 Ps.
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
			used := fuzztest.CPUTime()
			fill(b, s, src, start, end)
			took := fuzztest.CPUTime() - used
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
