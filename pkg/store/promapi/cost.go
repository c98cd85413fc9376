package promapi

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/p-scope/p-scope/pkg/metrics"
)

// What memory is counted in: samples of 16 bytes (promql.FPoint).
const (
	sampleBytes   = 16
	seriesSamples = 64 // a series that a selector has found takes about 1 KB: labels, and where its chunks are
	histSamples   = 32 // a native histogram; those here count 16 in the engine
)

// cost is what an expression will hold in memory at most, in samples, and what its result takes of that.
type cost struct{ peak, out float64 }

// estimator estimates costs.
type estimator struct {
	ctx     context.Context
	db      Database
	limit   int64              // samples that all queries may hold
	counts  map[string]float64 // series by selector
	minimum bool               // estimate what is needed in any case, instead of what may be needed
}

// span is when an expression is evaluated: from start to end, every step; milliseconds.
type span struct{ start, end, step float64 }

func (w span) steps() float64 {
	if w.step <= 0 {
		return 1
	}
	return max(1, (w.end-w.start)/w.step+1)
}

// estimate gives what an expression holds between start and end; a step of 0 is an instant query. minimum is what it
// needs in any case: an aggregation may leave a single series. expected is what it needs if the labels that it keeps
// distinguish as many series as they can.
func (a *API) estimate(ctx context.Context, e parser.Expr, start, end time.Time, step time.Duration) (
	minimum, expected cost, err error) {
	c := estimator{ctx, a.db, a.budget.total, make(map[string]float64), true}
	w := span{float64(start.UnixMilli()), float64(end.UnixMilli()), float64(step.Milliseconds())}
	if minimum, err = c.of(e, w); err != nil {
		return minimum, expected, err
	}
	c.minimum = false
	expected, err = c.of(e, w)
	return minimum, expected, err
}

func (c *estimator) of(e parser.Expr, w span) (cost, error) {
	switch n := e.(type) {
	case *parser.VectorSelector:
		series, size, err := c.series(n)
		out := series * w.steps() * size
		return cost{out + series*seriesSamples, out}, err
	case *parser.MatrixSelector:
		return c.window(n, w)
	case *parser.SubqueryExpr:
		return c.subquery(n, w)
	case *parser.Call:
		return c.call(n, w)
	case *parser.AggregateExpr:
		in, err := c.of(n.Expr, w)
		if err != nil {
			return in, err
		}
		out := in.out
		if c.minimum {
			out = min(out, w.steps())
		} else if !n.Without && !keepsSeries(n.Op) {
			out = min(out, c.groups(n.Grouping)*w.steps()*histSamples)
		}
		return cost{max(in.peak, in.out+out), out}, nil
	case *parser.BinaryExpr:
		l, err := c.of(n.LHS, w)
		if err != nil {
			return l, err
		}
		r, err := c.of(n.RHS, w)
		out := max(l.out, r.out)
		if n.Op == parser.LOR {
			out = l.out + r.out
		}
		return cost{max(l.peak, l.out+r.peak, l.out+r.out+out), out}, err
	case *parser.ParenExpr:
		return c.of(n.Expr, w)
	case *parser.UnaryExpr:
		return c.of(n.Expr, w)
	case *parser.StepInvariantExpr:
		return c.of(n.Expr, w)
	}
	return cost{w.steps(), w.steps()}, nil // a number or a string
}

// groups is how many groups the labels can make at most.
func (c *estimator) groups(names []string) float64 {
	n := 1.0
	for _, name := range names {
		n *= float64(c.db.CountLabelValues(c.ctx, name) + 1) // and the series without the label
	}
	return n
}

// keepsSeries names the aggregations whose result has as many series as there are values.
func keepsSeries(op parser.ItemType) bool {
	switch op {
	case parser.TOPK, parser.BOTTOMK, parser.LIMITK, parser.LIMIT_RATIO, parser.COUNT_VALUES:
		return true
	}
	return false
}

// call is a function's cost. Its arguments stay until its result is there, except that one over a range reads one
// series after another.
func (c *estimator) call(n *parser.Call, w span) (total cost, err error) {
	held, result := 0.0, w.steps()
	for _, a := range n.Args {
		in, err := c.of(a, w)
		if err != nil {
			return in, err
		}
		total.peak = max(total.peak, held+in.peak)
		switch arg := unwrap(a).(type) {
		case *parser.MatrixSelector:
			values, err := c.results(arg, w)
			if err != nil {
				return in, err
			}
			held += in.peak
			result = max(result, values)
		case *parser.SubqueryExpr:
			// The values of the sub-query stay; the result has one for each step and series.
			held += in.out
			result = max(result, in.out/c.inner(arg, w).steps()*w.steps())
		default:
			held += in.out
			result = max(result, in.out)
		}
	}
	return cost{max(total.peak, held+result), result}, nil
}

func unwrap(e parser.Expr) parser.Expr {
	for {
		switch n := e.(type) {
		case *parser.ParenExpr:
			e = n.Expr
		case *parser.StepInvariantExpr:
			e = n.Expr
		default:
			return e
		}
	}
}

// window is what a range selector holds: its series, and the samples of one of them.
func (c *estimator) window(n *parser.MatrixSelector, w span) (cost, error) {
	v, ok := n.VectorSelector.(*parser.VectorSelector)
	if !ok {
		return cost{}, nil
	}
	series, size, err := c.series(v)
	one := min(n.Range.Seconds(), c.db.Retention().Seconds()) / c.db.Interval().Seconds() * size
	held := one
	if w.step <= 0 {
		held = series * one // an instant query may ask for the samples themselves
	}
	return cost{series*seriesSamples + held, held}, err
}

// results is how many values a function of a range selector gives.
func (c *estimator) results(n *parser.MatrixSelector, w span) (float64, error) {
	v, ok := n.VectorSelector.(*parser.VectorSelector)
	if !ok {
		return 0, nil
	}
	series, size, err := c.series(v)
	return series * size * w.steps(), err
}

// inner is when a sub-query's expression is evaluated.
func (c *estimator) inner(n *parser.SubqueryExpr, w span) span {
	step := n.Step
	if step <= 0 {
		step = c.db.Interval()
	}
	return span{w.start - float64(n.Range.Milliseconds()), w.end, float64(step.Milliseconds())}
}

func (c *estimator) subquery(n *parser.SubqueryExpr, w span) (cost, error) {
	in := c.inner(n, w)
	got, err := c.of(n.Expr, in)
	if err == nil && c.minimum && got.peak > float64(c.limit) {
		err = tooLarge(got.peak, c.limit, fmt.Sprintf("the sub-query [%v:%v] alone is evaluated at %.0f points: "+
			"give it a shorter range or a larger step", n.Range, time.Duration(in.step)*time.Millisecond, in.steps()))
	}
	return got, err
}

// series gives about how many series a selector finds, and how many samples one of its values is worth. Series that
// have ended make the true number larger: the engine counts while it reads, and stops the query.
func (c *estimator) series(v *parser.VectorSelector) (n, size float64, err error) {
	size = 1
	if isHistogram(v) {
		size = histSamples
	}
	key := v.String()
	if n, ok := c.counts[key]; ok {
		return n, size, nil
	}
	count, err := c.db.CountSeries(c.ctx, v.LabelMatchers...)
	c.counts[key] = float64(count)
	return float64(count), size, err
}

var histograms = func() map[string]bool {
	names := make(map[string]bool)
	for _, f := range metrics.Families() {
		if f.Kind == metrics.Histogram {
			names[f.Name] = true
		}
	}
	return names
}()

func isHistogram(v *parser.VectorSelector) bool {
	if v.Name != "" {
		return histograms[v.Name]
	}
	for _, m := range v.LabelMatchers {
		if m.Name == model.MetricNameLabel {
			for name := range histograms {
				if m.Matches(name) {
					return true
				}
			}
			return false
		}
	}
	return true // any name
}
