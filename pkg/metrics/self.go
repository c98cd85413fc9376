package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// own reads what this process uses of the machine; the names are those every Prometheus client gives them.
var own = func() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}()

// Self gives what the calling process uses of the machine, by metric name: seconds of CPU time, bytes, counts. What the system does not tell is
// left out.
func Self() map[string]float64 {
	out := map[string]float64{}
	families, _ := own.Gather() // what could be gathered is given beside the error
	for _, f := range families {
		for _, m := range f.GetMetric() {
			out[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

// self is a family of the agent as a process.
func self(f Family) family {
	return family{Family: f, agent: func(w *walk, snap *Snapshot) {
		if v, ok := snap.Self[f.Name]; ok {
			w.agentFloat(v)
		}
	}}
}
