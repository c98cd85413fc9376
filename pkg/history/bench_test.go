//go:build linux

package history

import (
	"fmt"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
)

// BenchmarkHandOver is what a second of history costs in the agent and in its child: targets x 8 Ps. The views are made
// beforehand.
func BenchmarkHandOver(b *testing.B) {
	for _, targets := range []int{10, 100} {
		b.Run(fmt.Sprintf("targets=%d", targets), func(b *testing.B) {
			k := keep(b, nil)
			k.src = viewtest.New(targets, 8, time.Now().Add(-time.Hour))
			at := time.Now().Truncate(time.Second).Add(-50 * time.Minute)
			const states = 120
			k.put(at)
			k.settle()
			child, own := k.Self()["pscope_history_cpu_seconds_total"], time.Duration(0)
			for b.Loop() {
				for i := 1; i <= states; i++ {
					snap := k.views(at.Add(time.Duration(i) * time.Second))
					begun := fuzztest.CPUTime()
					k.queue.put(at.Add(time.Duration(i)*time.Second).UnixMilli(), snap)
					for n, _ := k.queue.state(); n > 0; n, _ = k.queue.state() {
						time.Sleep(5 * time.Millisecond)
					}
					own += fuzztest.CPUTime() - begun
				}
				at = at.Add(states * time.Second)
			}
			n := float64(states * b.N)
			b.ReportMetric(own.Seconds()/n*100, "agent-%core")
			b.ReportMetric((k.Self()["pscope_history_cpu_seconds_total"]-child)/n*100, "child-%core")
			b.ReportMetric(k.Self()["pscope_history_resident_memory_bytes"]/1e6, "child-rss-MB")
			b.ReportMetric(float64(anonymous(k.childPID()))/1e6, "child-anon-MB")
		})
	}
}
