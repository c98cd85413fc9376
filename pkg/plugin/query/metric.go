package query

import "slices"

// byLabels maps the words of `by` to labels of the series.
var byLabels = map[string]string{
	"host": "host", "process": "process", "pid": "process_pid", "runtime": "runtime", "container": "container",
	"pod": "pod",
	"p":   "p", "state": "state", "thread_state": "thread_state", "reason": "reason",
}

// targetDimensions are the words of `by` for labels of a target, which the series of every metric have.
var targetDimensions = []string{"host", "process", "pid", "runtime", "container", "pod"}

// Dimensions are the words of `by` in the order in which they are listed to users.
func Dimensions() []string {
	return append(slices.Clone(targetDimensions), "p", "state", "thread_state", "reason")
}

// TargetDimensions are those of the labels that the series of every metric have.
func TargetDimensions() []string { return slices.Clone(targetDimensions) }

// LabelOf is the label behind a word of `by`.
func LabelOf(dimension string) string { return byLabels[dimension] }

// Spec is what the query model knows of a metric.
type Spec struct {
	// Labels beyond those of the target that its series can be grouped by, as words of `by`.
	Labels []string
	// By is the default grouping.
	By []string
	// Unit of the values in Grafana's words.
	Unit string
	// Aggregate is how values are taken together over what `by` leaves out, when the query names no aggregation. Empty:
	// the 99th percentile of a distribution.
	Aggregate string
	// Lane is true when each P has a value, so that a heatmap can show one row a P.
	Lane bool
	// Distribution is true when a heatmap shows the metric as a histogram.
	Distribution bool
	// Timeline is true when a timeline can show the states behind the metric.
	Timeline bool
	// Watched is true when an agent's Watch stream carries the metric; others come from its store, a second at a time.
	Watched bool
}

var (
	targetBy = []string{"host", "process", "pid", "runtime"}
	perP     = []string{"host", "process", "pid", "runtime", "p"}
	ofP      = []string{"p"}
)

// metrics has every metric a query may name.
var metrics = map[Metric]Spec{
	MetricState: {Labels: []string{"p", "state"}, By: append(slices.Clone(targetBy), "state"), Unit: "percentunit",
		Aggregate: "avg", Lane: true, Timeline: true, Watched: true},
	MetricThread: {Labels: []string{"p", "thread_state"}, By: append(slices.Clone(targetBy), "thread_state"),
		Unit: "percentunit", Aggregate: "avg", Lane: true, Timeline: true, Watched: true},
	MetricBusy:             {Labels: ofP, By: perP, Unit: "percentunit", Aggregate: "avg", Lane: true, Watched: true},
	MetricDShare:           {Labels: ofP, By: perP, Unit: "percentunit", Aggregate: "avg", Lane: true, Watched: true},
	MetricRunq:             {Labels: ofP, By: perP, Unit: "short", Aggregate: "sum", Lane: true, Watched: true},
	MetricRunqDistribution: {Labels: ofP, By: targetBy, Unit: "short", Distribution: true},
	MetricGlobalRunq:       {By: targetBy, Unit: "short", Aggregate: "sum", Watched: true},
	MetricWakeWait:         {Labels: ofP, By: targetBy, Unit: "s", Distribution: true},
	MetricStops: {Labels: []string{"p", "reason"}, By: targetBy, Unit: "percentunit", Aggregate: "avg",
		Distribution: true},
	MetricStopRate:     {Labels: []string{"reason"}, By: targetBy, Unit: "ops", Aggregate: "sum"},
	MetricSchedTicks:   {Labels: ofP, By: perP, Unit: "ops", Aggregate: "sum", Lane: true},
	MetricSyscalls:     {Labels: ofP, By: perP, Unit: "ops", Aggregate: "sum", Lane: true},
	MetricTransitions:  {Labels: ofP, By: perP, Unit: "ops", Aggregate: "sum", Lane: true},
	MetricMigrations:   {Labels: ofP, By: perP, Unit: "ops", Aggregate: "sum", Lane: true},
	MetricCPUFrequency: {Labels: ofP, By: []string{"host", "p"}, Unit: "hertz", Aggregate: "avg", Lane: true},
	MetricImbalance:    {By: targetBy, Unit: "percentunit", Aggregate: "max"},
	MetricGOMAXPROCS:   {By: targetBy, Unit: "short", Aggregate: "sum", Watched: true},
}

// Metrics lists all metrics in the order in which the editor shows them.
func Metrics() []Metric {
	return []Metric{
		MetricState, MetricThread, MetricBusy, MetricDShare, MetricRunq, MetricRunqDistribution, MetricGlobalRunq,
		MetricWakeWait, MetricStops, MetricStopRate, MetricSchedTicks, MetricSyscalls, MetricTransitions,
		MetricMigrations,
		MetricCPUFrequency, MetricImbalance, MetricGOMAXPROCS,
	}
}

// has says whether the metric's series carry the label behind a word of `by`.
func (m Spec) has(by string) bool {
	return slices.Contains(targetDimensions, by) || slices.Contains(m.Labels, by)
}

// Spec is what the query model knows of the metric.
func (m Metric) Spec() Spec { return metrics[m] }

// Unit of the metric's values, in Grafana's words.
func (m Metric) Unit() string { return metrics[m].Unit }

// Lane is true when the metric has one value per P, so that a heatmap can show a row for each.
func (m Metric) Lane() bool { return metrics[m].Lane }

// Distribution is true when a heatmap of the metric shows how often which value occurred.
func (m Metric) Distribution() bool { return metrics[m].Distribution }

// Aggregate is how values are taken together over what the grouping leaves out.
func (q *Query) Aggregate() string {
	if q.Aggregation != "" {
		return q.Aggregation
	}
	return metrics[q.Metric].Aggregate
}

// Share is true when the query's values are shares of time and so between 0 and 1.
func (q *Query) Share() bool {
	return !q.Code() && metrics[q.Metric].Unit == "percentunit" && q.Aggregate() != "sum"
}
