package store

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// both reads the raw and the coarse database as one.
type both struct{ s *Store }

// Querier implements storage.Queryable.
func (b both) Querier(mint, maxt int64) (storage.Querier, error) {
	raw, err := b.s.raw.db.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	coarse, err := b.s.coarse.db.Querier(mint, maxt)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	start, err := b.s.raw.db.StartTime()
	// The coarse samples are some of the raw ones, with the same times and values: merging the two drops the doubles.
	both := storage.NewMergeQuerier([]storage.Querier{raw, coarse}, nil, storage.ChainedSeriesMerge)
	return &querier{Querier: both, raw: raw, coarse: coarse, grain: b.s.coarse.every.Milliseconds(),
		rawReaches: err == nil && start <= mint}, nil
}

// querier is both databases merged, except that a selection takes one of them where that gives the same picture sooner.
type querier struct {
	storage.Querier
	raw, coarse storage.Querier
	grain       int64 // milliseconds between coarse samples
	rawReaches  bool  // the raw database goes back to the start of the query
}

// Select implements storage.Querier.
func (q *querier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints,
	ms ...*labels.Matcher) storage.SeriesSet {
	switch {
	case q.coarseWillDo(hints):
		return q.coarse.Select(ctx, sorted, hints, ms...)
	case q.rawReaches:
		return q.raw.Select(ctx, sorted, hints, ms...)
	}
	return q.Querier.Select(ctx, sorted, hints, ms...)
}

// LabelValues implements storage.Querier.
func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints,
	ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	if q.rawReaches {
		return q.raw.LabelValues(ctx, name, hints, ms...)
	}
	return q.Querier.LabelValues(ctx, name, hints, ms...)
}

// coarseWillDo says whether a selection needs no more than the coarse samples. Counters are exact at every sample, so a
// rate over three of them is as true as over forty-five. A gauge looked at once in three is the same gauge. Not so a
// maximum or a quantile over time: those keep every raw sample.
func (q *querier) coarseWillDo(h *storage.SelectHints) bool {
	if h == nil {
		return false
	}
	switch h.Func {
	case "rate", "increase", "avg_over_time":
		return h.Range >= 16*q.grain || h.Range >= 3*q.grain && h.Step >= 2*q.grain
	case "series":
		return false
	}
	return h.Range == 0 && h.Step >= 3*q.grain
}
