package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sort"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
)

// A range query over many series holds every series it reads at every step, though what it gives may be small. Each
// step is evaluated by itself, so a query that would hold more than all queries may is evaluated piece by piece: a part
// of the range at a time, and the results are joined. It takes half of the budget while it runs, or all of it where
// half won't do: one half of that for the present piece, the other for what the pieces before gave.

// rangeMaker makes a query for a part of a range.
type rangeMaker func(ctx context.Context, e *promql.Engine, start, end time.Time) (promql.Query, error)

// pieceable says whether parts of a range can be evaluated by themselves: nothing in the expression names the range's
// own start or end.
func pieceable(e parser.Expr) bool {
	names := false
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch v := n.(type) {
		case *parser.VectorSelector:
			names = names || v.StartOrEnd != 0
		case *parser.SubqueryExpr:
			names = names || v.StartOrEnd != 0
		}
		return nil
	})
	return !names
}

// firstPiece is how many steps the first piece has: by the estimate the most that half of a share holds. 0: not even
// one step fits, or the result does not.
func (a *API) firstPiece(ctx context.Context, e parser.Expr, share int64,
	start, end time.Time, step time.Duration) (int, error) {
	half := float64(share) / 2
	for n := int(end.Sub(start)/step) + 1; n > 0; n /= 2 {
		minimum, expected, err := a.estimate(ctx, e, start, start.Add(time.Duration(n-1)*step), step)
		if f := (*failure)(nil); errors.As(err, &f) {
			continue // a sub-query's own range
		}
		if err != nil {
			return 0, err
		}
		if minimum.out > half {
			return 0, nil
		}
		if expected.peak <= half || n == 1 && minimum.peak <= half {
			return n, nil
		}
	}
	return 0, nil
}

// pieces evaluates a range query piece by piece with half of the budget, or with all of it. refusal is the answer where
// that is not enough.
func (a *API) pieces(ctx context.Context, e parser.Expr, start, end time.Time, step time.Duration, limit int,
	query rangeMaker, refusal error) (any, annotations.Annotations, error) {
	if step == 0 || !pieceable(e) {
		return nil, nil, refusal
	}
	for class := len(a.budget.classes) - 2; class < len(a.budget.classes); class++ {
		n, err := a.firstPiece(ctx, e, a.budget.classes[class].samples, start, end, step)
		if err != nil {
			return nil, nil, err
		}
		if n == 0 {
			continue
		}
		data, notes, err := a.execPieces(ctx, class, n, start, end, step, limit, query)
		if errors.Is(err, errResult) || tooMuch(err) {
			refusal = stillTooMuch(err)
			continue
		}
		return data, notes, err
	}
	return nil, nil, refusal
}

// execPieces evaluates a range query piece by piece with the share of a class, the first of n steps.
func (a *API) execPieces(ctx context.Context, class, n int, start, end time.Time, step time.Duration, limit int,
	query rangeMaker) (any, annotations.Annotations, error) {
	t, err := a.budget.admit(ctx, class)
	if err != nil {
		return nil, nil, err
	}
	share := a.budget.classes[class].samples
	j := joined{index: make(map[uint64][]int), most: share / 2}
	half := a.budget.classes[a.budget.class(share/2)].engine
	for at := start; !at.After(end); {
		to := at.Add(time.Duration(n-1) * step)
		if to.After(end) {
			to = end
		}
		err := j.piece(t.ctx, func() (promql.Query, error) { return query(t.ctx, half, at, to) })
		if tooMuch(err) && n > 1 {
			n = (n + 1) / 2 // more than the estimate said
			continue
		}
		if err != nil {
			t.done()
			return nil, nil, t.why(err)
		}
		at = to.Add(step)
	}
	sort.Sort(j.all)
	return answered{value: j.all, limit: limit, close: t.done}, j.notes, nil
}

func stillTooMuch(err error) error {
	return &failure{"execution", http.StatusUnprocessableEntity,
		fmt.Errorf("%w: that is all that queries have of the memory; "+
			"ask for fewer series, a shorter range or a larger step", err)}
}

// joined is what the pieces gave so far.
type joined struct {
	all   promql.Matrix
	index map[uint64][]int // places in all, by the hash of the labels
	held  int64            // samples
	most  int64
	notes annotations.Annotations
}

// piece evaluates one piece and takes over its result.
func (j *joined) piece(ctx context.Context, query func() (promql.Query, error)) error {
	q, err := query()
	if err != nil {
		return badData(`invalid parameter "query": %w`, err)
	}
	defer q.Close()
	res := q.Exec(ctx)
	if res.Err != nil {
		return res.Err
	}
	m, err := res.Matrix()
	if err != nil {
		return err
	}
	j.held += int64(m.TotalSamples())
	if j.held > j.most {
		return errResult
	}
	j.notes.Merge(res.Warnings)
	for i := range m {
		to := &j.all[j.place(m[i].Metric)]
		// The memory of a query's result is used again once it is closed.
		to.Floats = append(to.Floats, m[i].Floats...)
		for _, h := range m[i].Histograms {
			to.Histograms = append(to.Histograms, promql.HPoint{T: h.T, H: h.H.Copy()})
		}
	}
	return nil
}

// errResult says that the result alone is too large; no shorter piece helps.
var errResult = errors.New("the result alone holds more values than that")

// place is where the series of some labels is in the result.
func (j *joined) place(l labels.Labels) int {
	key := l.Hash()
	for _, i := range j.index[key] {
		if labels.Equal(j.all[i].Metric, l) {
			return i
		}
	}
	j.index[key] = append(j.index[key], len(j.all))
	j.all = append(j.all, promql.Series{Metric: l.Copy()})
	return len(j.all) - 1
}
