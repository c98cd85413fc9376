package query

import "fmt"

// ForAlert turns the query of an alert rule, of any kind, into the series query that stands for it: alert rules compare
// numbers. A kind that has none is an error which names the kind to use.
func (q Query) ForAlert() (Query, error) {
	switch q.Kind {
	case KindSeries:
		return q, nil
	case KindHeatmap:
		if q.Metric.Lane() {
			q = q.Lanes()
		} else if !q.Metric.Distribution() {
			return q, q.noLanes()
		}
	case KindTimeline:
		// The share of time in the states shown stands for the states themselves.
		if q.Metric != MetricThread {
			q.Metric = MetricState
		}
		q = q.Lanes()
	case KindStops:
		q.Metric, q.Aggregation, q.By = MetricStops, "", targetBy
	case KindBlocked:
		q.Metric, q.Aggregation, q.By = MetricDShare, "", perP
	default:
		return q, &Error{Field: "kind", What: fmt.Sprintf("%s can't be used in an alert rule", q.Kind),
			Why:  "it answers with words, not with numbers over time",
			Next: "Use kind series, with the metric imbalance, d_share or runq, or with a PromQL expression"}
	}
	q.Kind, q.Live = KindSeries, false
	return q, nil
}

// Lanes is the series query behind a heatmap's lanes: one series per P, with the states that mean busy unless the query
// names others.
func (q Query) Lanes() Query {
	q.By = perP
	if q.Metric == MetricCPUFrequency {
		q.By = []string{"host", "p"}
	}
	if q.Metric == MetricState && len(q.PStates) == 0 {
		q.PStates = Busy()
	}
	if q.Metric == MetricThread && len(q.ThreadStates) == 0 {
		q.ThreadStates = OnCPU()
	}
	return q
}

// CheckLanes is an error when a heatmap can't show the query's metric.
func (q *Query) CheckLanes() error {
	if q.Metric.Lane() || q.Metric.Distribution() {
		return nil
	}
	return q.noLanes()
}

func (q *Query) noLanes() error {
	return &Error{Field: "metric", What: fmt.Sprintf("a heatmap can't show %s", q.Metric),
		Why: "it has one value per " +
			"process, not one per P",
		Next: "Use kind series for it"}
}
