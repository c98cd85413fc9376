package promapi

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// readIndex runs what reads the index alone, with the smallest share.
func (a *API) readIndex(r *http.Request, read func(ctx context.Context) (any, annotations.Annotations, error)) (
	any, annotations.Annotations, error) {
	ctx, cancel := context.WithTimeout(r.Context(), a.opts.QueryTimeout)
	defer cancel()
	t, err := a.budget.admit(ctx, 0)
	if err != nil {
		return nil, nil, err
	}
	defer t.done()
	data, notes, err := read(t.ctx)
	if err != nil {
		err = t.why(err)
	}
	return data, notes, err
}

// querier opens the database over the range that start and end name, and parses the match[] parameters.
func (a *API) querier(r *http.Request) (*rangeQuerier, [][]*labels.Matcher, error) {
	start, err := timeParam(r, "start", time.UnixMilli(0))
	if err != nil {
		return nil, nil, err
	}
	end, err := timeParam(r, "end", time.UnixMilli(math.MaxInt64/2))
	if err != nil {
		return nil, nil, err
	}
	if end.Before(start) {
		return nil, nil, badData(`invalid parameter "end": end timestamp must not be before start time`)
	}
	var sets [][]*labels.Matcher
	p := parser.NewParser(parser.Options{})
	for _, m := range r.Form["match[]"] {
		ms, err := p.ParseMetricSelector(m)
		if err != nil {
			return nil, nil, badData(`invalid parameter "match[]": %w`, err)
		}
		if !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches("") }) {
			return nil, nil, badData(`invalid parameter "match[]": %s matches everything: name a metric or a label`, m)
		}
		sets = append(sets, ms)
	}
	q, err := a.db.Queryable().Querier(start.UnixMilli(), end.UnixMilli())
	return &rangeQuerier{q, start.UnixMilli(), end.UnixMilli()}, sets, err
}

// rangeQuerier is a querier with the range it was opened for, Unix milliseconds.
type rangeQuerier struct {
	storage.Querier
	start, end int64
}

// series answers /api/v1/series.
func (a *API) series(r *http.Request) (any, annotations.Annotations, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, nil, err
	}
	q, sets, err := a.querier(r)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	if len(sets) == 0 {
		return nil, nil, badData("no match[] parameter provided: name the series you look for")
	}
	return a.readIndex(r, func(ctx context.Context) (any, annotations.Annotations, error) {
		found := make([]storage.SeriesSet, len(sets))
		for i, ms := range sets {
			// "series" tells the database that no samples will be read.
			found[i] = q.Select(ctx, true, &storage.SelectHints{Start: q.start, End: q.end, Func: "series",
				Limit: limit + 1}, ms...)
		}
		all := storage.NewMergeSeriesSet(found, 0, storage.ChainedSeriesMerge)
		out := []labels.Labels{}
		var notes annotations.Annotations
		for all.Next() {
			if len(out) == limit {
				notes.Add(errTruncated)
				break
			}
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			out = append(out, all.At().Labels().Copy())
		}
		return out, notes.Merge(all.Warnings()), all.Err()
	})
}

var errTruncated = errors.New("results truncated due to limit")

// listLimit is how many series, names or values an answer has at most. The database is asked for one more, so that it
// is seen whether there are.
func listLimit(r *http.Request) (int, error) {
	limit, err := limitParam(r)
	if limit == 0 {
		limit = maxListed
	}
	return min(limit, maxListed), err
}

// labelNames answers /api/v1/labels.
func (a *API) labelNames(r *http.Request) (any, annotations.Annotations, error) {
	return a.listStrings(r, func(ctx context.Context, q storage.Querier, h *storage.LabelHints, ms []*labels.Matcher) (
		[]string, annotations.Annotations, error) {
		return q.LabelNames(ctx, h, ms...)
	})
}

// labelValues answers /api/v1/label/<name>/values.
func (a *API) labelValues(r *http.Request) (any, annotations.Annotations, error) {
	name := r.PathValue("name")
	if !model.UTF8Validation.IsValidLabelName(name) {
		return nil, nil, badData("invalid label name: %q", name)
	}
	return a.listStrings(r, func(ctx context.Context, q storage.Querier, h *storage.LabelHints, ms []*labels.Matcher) (
		[]string, annotations.Annotations, error) {
		return q.LabelValues(ctx, name, h, ms...)
	})
}

// lookup gives names or values.
type lookup func(context.Context, storage.Querier, *storage.LabelHints, []*labels.Matcher) (
	[]string, annotations.Annotations, error)

// listStrings gathers sorted strings over all match[] parameters.
func (a *API) listStrings(r *http.Request, get lookup) (any, annotations.Annotations, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, nil, err
	}
	q, sets, err := a.querier(r)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	return a.readIndex(r, func(ctx context.Context) (any, annotations.Annotations, error) {
		out := []string{}
		var notes annotations.Annotations
		for _, ms := range sets {
			ws, more, err := get(ctx, q, &storage.LabelHints{Limit: limit + 1}, ms)
			if err != nil {
				return nil, nil, err
			}
			for _, w := range ws {
				out = append(out, strings.Clone(w)) // the database's own memory goes when q is closed
			}
			notes.Merge(more)
			slices.Sort(out)
			out = slices.Compact(out)
			out = out[:min(len(out), limit+1)]
		}
		if len(out) > limit {
			out = out[:limit]
			notes.Add(errTruncated)
		}
		return out, notes, nil
	})
}
