package plugin

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/prometheus/common/model"

	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// standing is why a value comes before others.
type standing struct {
	stuck   float64 // D share of the worst P in its worst half minute
	present bool    // something of the value is there at the end of the range
	busy    float64 // Ps' worth of work
}

// worstFirst orders values of a label by what somebody who was woken by an alert wants to see: first what had a P stuck
// in D, the worst first; then what is there by how busy it is; then what has ended. A dashboard opens on the first
// value of a list. Values must be in the order of their names, which decides between equals, and stands where the
// sources don't answer.
func (d *Datasource) worstFirst(ctx context.Context, q *query.Query, label string, values []string) {
	answers := agent.Ask(ctx, d.set.Histories(), func(ctx context.Context, h *agent.History) ([3]model.Vector, error) {
		var out [3]model.Vector
		e := q.StandingExprs(h.Dialect(false), label)
		for i, expr := range []string{e.Stuck, e.Present, e.Busy} {
			v, err := h.Instant(ctx, expr, q.To)
			if err != nil {
				return out, err
			}
			out[i] = v
		}
		return out, nil
	})
	// Without an answer the names are order enough; the list itself has been had.
	parts, _, _ := agent.Split(answers)
	by := map[string]*standing{}
	for _, part := range parts {
		for i, vector := range part {
			for _, s := range vector {
				name, v := string(s.Metric[model.LabelName(label)]), float64(s.Value)
				if by[name] == nil {
					by[name] = &standing{}
				}
				if math.IsNaN(v) {
					continue
				}
				switch i {
				case 0:
					by[name].stuck = max(by[name].stuck, v)
				case 1:
					by[name].present = true
				default:
					by[name].busy += v
				}
			}
		}
	}
	rank := func(s *standing) int {
		switch {
		case s.stuck >= query.StuckFrom:
			return 0
		case s.present:
			return 1
		}
		return 2
	}
	of := func(value string) *standing { return cmp.Or(by[value], &standing{}) }
	slices.SortStableFunc(values, func(a, b string) int {
		x, y := of(a), of(b)
		if c := cmp.Compare(rank(x), rank(y)); c != 0 {
			return c
		}
		if rank(x) == 0 {
			if c := cmp.Compare(y.stuck, x.stuck); c != 0 {
				return c
			}
		}
		return cmp.Compare(y.busy, x.busy)
	})
}
