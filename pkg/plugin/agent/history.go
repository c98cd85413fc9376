package agent

import (
	"context"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// Dialect is what the PromQL builder has to know of this source.
func (h *History) Dialect(several bool) query.Dialect {
	return query.Dialect{Sample: h.Sample, Native: h.Native, Several: several}
}

// Range runs an expression over a range and gives its series. Warnings are the engine's own words.
func (h *History) Range(ctx context.Context, expr string, first, last time.Time, step time.Duration) (model.Matrix,
	[]string, error) {
	v, warnings, _, err := h.API.QueryRange(ctx, expr, promv1.Range{Start: first, End: last, Step: step})
	if err != nil {
		return nil, nil, explain(h.Name, err)
	}
	switch v := v.(type) {
	case model.Matrix:
		return v, warnings, nil
	default:
		return nil, nil, &Error{Source: h.Name, Why: "it answered with a " + v.Type().String() + " where series were " +
			"asked for", Next: "Correct the expression", Refused: true}
	}
}

// Instant runs an expression at one instant.
func (h *History) Instant(ctx context.Context, expr string, at time.Time) (model.Vector, error) {
	v, _, _, err := h.API.Query(ctx, expr, at)
	if err != nil {
		return nil, explain(h.Name, err)
	}
	switch v := v.(type) {
	case model.Vector:
		return v, nil
	case *model.Scalar:
		return model.Vector{{Metric: model.Metric{}, Value: v.Value, Timestamp: v.Timestamp}}, nil
	default:
		return nil, &Error{Source: h.Name, Why: "it answered with a " + v.Type().String() + " where numbers were " +
			"asked for", Next: "Correct the expression", Refused: true}
	}
}

// LabelValues gives the values of a label among the series that a selector matches.
func (h *History) LabelValues(ctx context.Context, label, selector string, from, to time.Time) ([]string, error) {
	values, _, _, err := h.API.LabelValues(ctx, label, []string{selector}, from, to)
	if err != nil {
		return nil, explain(h.Name, err)
	}
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out, nil
}
