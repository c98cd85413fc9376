package query

import "slices"

// byLabels maps the words of `by` to labels of the series.
var byLabels = map[string]string{
	"host": "host", "process": "process", "pid": "process_pid", "runtime": "runtime", "container": "container", "pod": "pod",
	"p": "p", "state": "state", "thread_state": "thread_state", "reason": "reason",
}

// byWords is the order in which the words of `by` are listed to users.
var byWords = []string{"host", "process", "pid", "runtime", "container", "pod", "p", "state", "thread_state", "reason"}

// metricSpec is what the builder knows of a metric.
type metricSpec struct {
	// labels beyond those of the target that its series can be grouped by.
	labels []string
	// by is the default grouping.
	by []string
	// unit of the values in Grafana's words.
	unit string
	// aggregate over what `by` leaves out, when the query names none.
	aggregate string
	// lane is true when each P has a value, so that a heatmap can show one row a P.
	lane bool
	// distribution is true when a heatmap shows the metric as a histogram.
	distribution bool
}

var (
	targetBy = []string{"host", "process", "pid", "runtime"}
	perP     = []string{"host", "process", "pid", "runtime", "p"}
)

// metrics has every metric a query may name.
var metrics = map[Metric]metricSpec{
	MetricState:            {labels: []string{"p", "state"}, by: []string{"host", "process", "pid", "runtime", "state"}, unit: "percentunit", aggregate: "avg", lane: true},
	MetricThread:           {labels: []string{"p", "thread_state"}, by: []string{"host", "process", "pid", "runtime", "thread_state"}, unit: "percentunit", aggregate: "avg", lane: true},
	MetricBusy:             {labels: []string{"p"}, by: perP, unit: "percentunit", aggregate: "avg", lane: true},
	MetricDShare:           {labels: []string{"p"}, by: perP, unit: "percentunit", aggregate: "avg", lane: true},
	MetricRunq:             {labels: []string{"p"}, by: perP, unit: "short", aggregate: "sum", lane: true},
	MetricRunqDistribution: {labels: []string{"p"}, by: targetBy, unit: "short", distribution: true},
	MetricGlobalRunq:       {by: targetBy, unit: "short", aggregate: "sum"},
	MetricWakeWait:         {labels: []string{"p"}, by: targetBy, unit: "s", distribution: true},
	MetricStops:            {labels: []string{"p", "reason"}, by: targetBy, unit: "percentunit", aggregate: "avg", distribution: true},
	MetricStopRate:         {labels: []string{"reason"}, by: targetBy, unit: "ops", aggregate: "sum"},
	MetricSchedTicks:       {labels: []string{"p"}, by: perP, unit: "ops", aggregate: "sum", lane: true},
	MetricSyscalls:         {labels: []string{"p"}, by: perP, unit: "ops", aggregate: "sum", lane: true},
	MetricTransitions:      {labels: []string{"p"}, by: perP, unit: "ops", aggregate: "sum", lane: true},
	MetricMigrations:       {labels: []string{"p"}, by: perP, unit: "ops", aggregate: "sum", lane: true},
	MetricCPUFrequency:     {labels: []string{"p"}, by: []string{"host", "p"}, unit: "hertz", aggregate: "avg", lane: true},
	MetricImbalance:        {by: targetBy, unit: "percentunit", aggregate: "max"},
	MetricGOMAXPROCS:       {by: targetBy, unit: "short", aggregate: "sum"},
}

// Metrics lists all metrics in the order in which the editor shows them.
func Metrics() []Metric {
	return []Metric{
		MetricState, MetricThread, MetricBusy, MetricDShare, MetricRunq, MetricRunqDistribution, MetricGlobalRunq, MetricWakeWait, MetricStops,
		MetricStopRate, MetricSchedTicks, MetricSyscalls, MetricTransitions, MetricMigrations, MetricCPUFrequency, MetricImbalance,
		MetricGOMAXPROCS,
	}
}

// has says whether the metric's series carry the label behind a word of `by`.
func (m metricSpec) has(by string) bool {
	switch by {
	case "host", "process", "pid", "runtime", "container", "pod":
		return true
	}
	return slices.Contains(m.labels, by)
}

// Unit of the metric's values, in Grafana's words.
func (m Metric) Unit() string { return metrics[m].unit }

// Lane is true when the metric has one value per P, so that a heatmap can show a row for each.
func (m Metric) Lane() bool { return metrics[m].lane }

// Distribution is true when a heatmap of the metric shows how often which value occurred.
func (m Metric) Distribution() bool { return metrics[m].distribution }

// Aggregate is how values are taken together over what the grouping leaves out.
func (q *Query) Aggregate() string {
	if q.Aggregation != "" {
		return q.Aggregation
	}
	return metrics[q.Metric].aggregate
}

// Share is true when the query's values are shares of time and so between 0 and 1.
func (q *Query) Share() bool {
	return !q.Code() && metrics[q.Metric].unit == "percentunit" && q.Aggregate() != "sum"
}
