package promapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
)

// query answers /api/v1/query.
func (a *API) query(r *http.Request) (any, annotations.Annotations, error) {
	at, err := timeParam(r, "time", time.Now())
	if err != nil {
		return nil, nil, err
	}
	return a.run(r, at, at, 0, func(ctx context.Context, e *promql.Engine, opts promql.QueryOpts,
		_, _ time.Time) (promql.Query, error) {
		return e.NewInstantQuery(ctx, a.db.Queryable(), opts, r.FormValue("query"), at)
	})
}

// queryRange answers /api/v1/query_range.
func (a *API) queryRange(r *http.Request) (any, annotations.Annotations, error) {
	var at [2]time.Time
	for i, name := range []string{"start", "end"} {
		if r.FormValue(name) == "" {
			return nil, nil, badData("invalid parameter %q: it is missing", name)
		}
		var err error
		if at[i], err = timeParam(r, name, time.Time{}); err != nil {
			return nil, nil, err
		}
	}
	if at[1].Before(at[0]) {
		return nil, nil, badData(`invalid parameter "end": end timestamp must not be before start time`)
	}
	step, err := durationParam(r, "step")
	if err != nil {
		return nil, nil, err
	}
	if step <= 0 {
		return nil, nil, badData(`invalid parameter "step": it must be above zero`)
	}
	if at[1].Sub(at[0])/step > maxPoints {
		return nil, nil, badData("more than %d points in each series: ask with a larger step", maxPoints)
	}
	return a.run(r, at[0], at[1], step, func(ctx context.Context, e *promql.Engine, opts promql.QueryOpts,
		start, end time.Time) (promql.Query, error) {
		return e.NewRangeQuery(ctx, a.db.Queryable(), opts, r.FormValue("query"), start, end, step)
	})
}

// answered is a result whose memory belongs to its query: it is encoded, then the query is closed.
type answered struct {
	value parser.Value
	limit int
	close func()
}

// parse reads an expression whose text has been checked.
func parse(query string) (parser.Expr, error) {
	return parser.NewParser(parser.Options{}).ParseExpr(query)
}

// maker makes a query of an engine's, for a range or a part of it.
type maker func(ctx context.Context, e *promql.Engine, opts promql.QueryOpts,
	start, end time.Time) (promql.Query, error)

// run evaluates the query between start and end, every step, once it has its share of the memory.
func (a *API) run(r *http.Request, start, end time.Time, step time.Duration, query maker) (
	any, annotations.Annotations, error) {
	limit, err := limitParam(r)
	if err != nil {
		return nil, nil, err
	}
	d := a.opts.QueryTimeout
	if r.FormValue("timeout") != "" {
		asked, err := durationParam(r, "timeout")
		if err != nil {
			return nil, nil, err
		}
		d = min(d, asked)
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	var lookback time.Duration
	if r.FormValue("lookback_delta") != "" {
		if lookback, err = durationParam(r, "lookback_delta"); err != nil {
			return nil, nil, err
		}
	}
	opts := promql.NewPrometheusQueryOpts(false, lookback, nil)
	expr, err := parse(r.FormValue("query"))
	if err != nil {
		return nil, nil, badData(`invalid parameter "query": %w`, err)
	}
	part := func(ctx context.Context, e *promql.Engine, start, end time.Time) (promql.Query, error) {
		return query(ctx, e, opts, start, end)
	}
	// What is too much at once may do piece by piece.
	pieces := func(refusal error) (any, annotations.Annotations, error) {
		return a.pieces(ctx, expr, start, end, step, limit, part, refusal)
	}
	minimum, expected, err := a.estimate(ctx, expr, start, end, step)
	if f := (*failure)(nil); errors.As(err, &f) {
		return pieces(err)
	}
	if err != nil {
		return nil, nil, err
	}
	if minimum.peak > float64(a.budget.total) {
		return pieces(tooLarge(minimum.peak, a.budget.total, "ask for fewer series, a shorter range or a larger step"))
	}
	// Where the estimate was too low the next larger share is tried.
	for class := a.budget.class(int64(expected.peak)); ; class++ {
		data, notes, err := a.exec(ctx, class, limit, func(ctx context.Context, e *promql.Engine) (
			promql.Query, error) {
			return part(ctx, e, start, end)
		})
		if !tooMuch(err) {
			return data, notes, err
		}
		if class == len(a.budget.classes)-1 {
			return pieces(stillTooMuch(err))
		}
	}
}

// tooMuch says whether the engine stopped a query at its share.
func tooMuch(err error) bool {
	var samples promql.ErrTooManySamples
	var series promql.ErrTooManySeries
	return errors.As(err, &samples) || errors.As(err, &series)
}

// exec evaluates a query with the share of a class. What it gives holds the share until it has been written.
func (a *API) exec(ctx context.Context, class, limit int,
	query func(context.Context, *promql.Engine) (promql.Query, error)) (any, annotations.Annotations, error) {
	t, err := a.budget.admit(ctx, class)
	if err != nil {
		return nil, nil, err
	}
	q, err := query(t.ctx, a.budget.classes[class].engine)
	if err != nil {
		t.done()
		return nil, nil, badData(`invalid parameter "query": %w`, err)
	}
	done := func() {
		q.Close()
		t.done()
	}
	res := q.Exec(t.ctx)
	if res.Err != nil {
		done()
		return nil, nil, t.why(res.Err)
	}
	return answered{value: res.Value, limit: limit, close: done}, res.Warnings, nil
}
