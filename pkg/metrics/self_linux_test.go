package metrics

import (
	"math"
	"os"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// TestSelfAgreesWithTheClientLibrary compares what is read here with what every other exporter says of itself.
func TestSelfAgreesWithTheClientLibrary(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// Both look at the process as it is: a file more must be a file more.
	before := Self()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := Self()
	if got["process_open_fds"] != before["process_open_fds"]+1 {
		t.Errorf("%v files open after %v and one more", got["process_open_fds"], before["process_open_fds"])
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			want[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, within := range map[string]float64{"process_cpu_seconds_total": 0.2,
		"process_resident_memory_bytes": 8 << 20, "process_open_fds": 2, "process_start_time_seconds": 1} {
		if d := math.Abs(got[name] - want[name]); got[name] <= 0 || d > within {
			t.Errorf("%s is %v here and %v there", name, got[name], want[name])
		}
	}
}
