//go:build linux

package main

import (
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"
)

// of are the series of one process in a family.
func (s *scrape) of(family string, pid int) (out []*dto.Metric) {
	for _, m := range s.families[family].GetMetric() {
		if label(m, "process_pid") == strconv.Itoa(pid) {
			out = append(out, m)
		}
	}
	return out
}

func label(m *dto.Metric, name string) string {
	i := slices.IndexFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == name })
	if i < 0 {
		return ""
	}
	return m.Label[i].GetValue()
}

// sums adds up a family's counters or gauges of one process by one label.
func (s *scrape) sums(family string, pid int, by string) map[string]float64 {
	out := map[string]float64{}
	for _, m := range s.of(family, pid) {
		out[label(m, by)] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return out
}

// growth is how much each of them is more than in an earlier scrape; what did not grow is left out.
func (s *scrape) growth(before *scrape, family string, pid int, by string) map[string]float64 {
	out := s.sums(family, pid, by)
	for name, v := range before.sums(family, pid, by) {
		out[name] -= v
	}
	for name, v := range out {
		if v == 0 {
			delete(out, name)
		}
	}
	return out
}

// histogram is the count and sum of a family's histograms of one process by one label.
func (s *scrape) histogram(family string, pid int, by string) (n map[string]uint64, sum map[string]float64) {
	n, sum = map[string]uint64{}, map[string]float64{}
	for _, m := range s.of(family, pid) {
		n[label(m, by)] += m.GetHistogram().GetSampleCount()
		sum[label(m, by)] += m.GetHistogram().GetSampleSum()
	}
	return n, sum
}

// queues are the depths of one process's run queues, the global one first.
func (s *scrape) queues(pid int) (depths []float64) {
	local, global := s.of("pscope_p_runq_depth", pid), s.of("pscope_runq_depth", pid)
	if len(local) == 0 || len(global) == 0 {
		return nil
	}
	for _, m := range append(global, local...) {
		depths = append(depths, m.GetGauge().GetValue())
	}
	return depths
}
