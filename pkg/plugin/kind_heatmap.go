package plugin

import (
	"context"
	"slices"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/prometheus/common/model"

	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/frames"
	"github.com/p-scope/p-scope/pkg/plugin/live"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// heatmap answers with one lane per P, or with a distribution.
func (d *Datasource) heatmap(ctx context.Context, q query.Query) (answer, error) {
	a := answer{}
	if err := q.CheckLanes(); err != nil {
		return a, err
	}
	q = d.narrow(ctx, &a, q)
	a.query = q
	if q.Metric.Distribution() {
		return a, d.distribution(ctx, &a, q)
	}
	curves, sent, err := d.curves(ctx, &a, q.Lanes())
	if err != nil {
		return a, err
	}
	look := live.LookOf(&q)
	look.Query = sent
	a.frames = data.Frames{frames.Lanes(curves, look)}
	a.streams = true
	return a, nil
}

// distribution answers with a histogram per step, added up over targets and agents.
func (d *Datasource) distribution(ctx context.Context, a *answer, q query.Query) error {
	sources := d.set.Histories()
	first, last := q.Range()
	answers := agent.Ask(ctx, sources, func(ctx context.Context, h *agent.History) (model.Matrix, error) {
		dialect := h.Dialect(len(sources) > 1)
		m, _, err := h.Range(ctx, q.DistributionExpr(dialect), first, last, q.Step)
		if err == nil && len(m) == 0 && !dialect.Native {
			if again, _, err := h.Range(ctx, q.DistributionExpr(native(dialect)), first, last, q.Step); err == nil {
				return again, nil
			}
		}
		return m, err
	})
	tables, failures, err := agent.Split(answers)
	if err != nil {
		return err
	}
	a.away(failures)
	sum := histograms{step: q.Step, by: map[int64]map[bounds]float64{}}
	for _, m := range tables {
		sum.addNative(m)
		sum.addClassic(m)
	}
	look := live.LookOf(&q)
	look.Query = q.DistributionExpr(sources[0].Dialect(len(sources) > 1))
	if q.Metric == query.MetricRunqDistribution {
		a.frames = data.Frames{frames.Rows(sum.list(), look)}
		return nil
	}
	look.Unit = "s"
	a.frames = data.Frames{frames.Cells(sum.list(), look)}
	return nil
}

// histograms adds histograms up by time and bucket, turning rates into counts per step.
type histograms struct {
	step time.Duration
	by   map[int64]map[bounds]float64
}

type bounds struct{ low, high float64 }

func (h *histograms) add(at model.Time, b bounds, perSecond float64) {
	if !(perSecond > 0) {
		return
	}
	// The zero bucket of a native histogram has a tiny width of its own; what it counts are zeros.
	const tiny = 1e-15
	if b.high < tiny {
		b = bounds{0, 0}
	}
	if b.low < tiny {
		b.low = 0
	}
	m := h.by[int64(at)]
	if m == nil {
		m = map[bounds]float64{}
		h.by[int64(at)] = m
	}
	m[b] += perSecond * h.step.Seconds()
}

func (h *histograms) addNative(table model.Matrix) {
	for _, s := range table {
		for _, p := range s.Histograms {
			if p.Histogram == nil {
				continue
			}
			h.moment(p.Timestamp)
			for _, b := range p.Histogram.Buckets {
				h.add(p.Timestamp, bounds{float64(b.Lower), float64(b.Upper)}, float64(b.Count))
			}
		}
	}
}

// addClassic takes cumulative buckets apart.
func (h *histograms) addClassic(table model.Matrix) {
	type cumulative struct{ le, count float64 }
	at := map[model.Time][]cumulative{}
	for _, s := range table {
		var le model.SampleValue
		if err := le.UnmarshalJSON([]byte(`"` + string(s.Metric["le"]) + `"`)); err != nil {
			continue // no bucket
		}
		for _, v := range s.Values {
			at[v.Timestamp] = append(at[v.Timestamp], cumulative{float64(le), float64(v.Value)})
		}
	}
	for t, buckets := range at {
		h.moment(t)
		slices.SortFunc(buckets, func(a, b cumulative) int {
			switch {
			case a.le < b.le:
				return -1
			case a.le > b.le:
				return 1
			}
			return 0
		})
		before := cumulative{}
		for _, b := range buckets {
			high := b.le
			if high > 1e300 && before.le > 0 {
				// Beyond the last bound nothing is known but that it is above.
				high = 2 * before.le
			}
			h.add(t, bounds{before.le, high}, b.count-before.count)
			before = b
		}
	}
}

// moment makes sure that a time is there even when nothing was counted: zero is a measurement.
func (h *histograms) moment(at model.Time) {
	if h.by[int64(at)] == nil {
		h.by[int64(at)] = map[bounds]float64{}
	}
}

func (h *histograms) list() []frames.Histogram {
	out := make([]frames.Histogram, 0, len(h.by))
	for at, buckets := range h.by {
		hist := frames.Histogram{Time: time.UnixMilli(at).UTC()}
		for b, n := range buckets {
			hist.Buckets = append(hist.Buckets, frames.Bucket{Low: b.low, High: b.high, Count: n})
		}
		out = append(out, hist)
	}
	slices.SortFunc(out, func(a, b frames.Histogram) int { return a.Time.Compare(b.Time) })
	return out
}
