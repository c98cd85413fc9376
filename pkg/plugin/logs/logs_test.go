package logs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/grafana/grafana-plugin-sdk-go/backend/log"
	"github.com/prometheus/client_golang/prometheus"
)

// kept is a Grafana logger that keeps what it is told.
type kept struct {
	log.Logger
	lines []string
}

func (k *kept) Warn(msg string, args ...any) {
	k.lines = append(k.lines, fmt.Sprint(append([]any{msg}, args...)...))
}
func (k *kept) Level() log.Level { return log.Info }

func TestANoisyClientIsFoldedAndCounted(t *testing.T) {
	was := log.DefaultLogger
	k := &kept{Logger: was}
	log.DefaultLogger = k
	defer func() { log.DefaultLogger = was }()
	for i := range 500 {
		Log.With("org", 1).Warn("a live channel was refused", "path", fmt.Sprint("x", i))
		Log.Debug("not at this level")
	}
	before := len(k.lines)
	Flush()
	last := k.lines[len(k.lines)-1]
	if before > 50 || len(k.lines) != before+1 || !strings.Contains(last, "more like it") || !strings.Contains(last,
		"x499") || !strings.Contains(last, "org") {
		t.Errorf("%d lines, then %d; the last is %q", before, len(k.lines), last)
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "pscope_plugin_log_messages_folded_total" {
			if n := f.GetMetric()[0].GetCounter().GetValue(); n != float64(500-before) {
				t.Errorf("the counter is %v, %d were not written", n, 500-before)
			}
			return
		}
	}
	t.Error("Grafana is not told of the counter")
}
