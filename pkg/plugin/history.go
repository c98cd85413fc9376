package plugin

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/prometheus/common/model"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/frames"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// maxCurves is the most series a panel gets; a browser draws no more in time. Alert rules get all.
const maxCurves = 2000

// curves asks every source of history for a series query and merges the answers. sent is the PromQL, for the query
// inspector.
func (d *Datasource) curves(ctx context.Context, a *answer, q query.Query) (curves []frames.Curve, sent string,
	err error) {
	sources := d.set.Histories()
	first, last := q.Range()
	type part struct {
		from   *agent.History
		plan   query.Plan
		tables []model.Matrix
	}
	answers := agent.Ask(ctx, sources, func(ctx context.Context, h *agent.History) (part, error) {
		ask := func(dialect query.Dialect) (part, error) {
			p := part{from: h, plan: q.Plan(dialect)}
			for _, expr := range p.plan.Exprs {
				m, _, err := h.Range(ctx, expr, first, last, q.Step)
				if err != nil {
					return p, err
				}
				p.tables = append(p.tables, m)
			}
			return p, nil
		}
		dialect := h.Dialect(len(sources) > 1)
		p, err := ask(dialect)
		if err == nil && !dialect.Native && len(p.tables[0]) == 0 &&
			!slices.Equal(p.plan.Exprs, q.Plan(native(dialect)).Exprs) {
			// An engine may have scraped native histograms. One that knows none may not even parse the expression: then
			// there is no data.
			if again, err := ask(native(dialect)); err == nil {
				return again, nil
			}
		}
		return p, err
	})
	parts, failures, err := agent.Split(answers)
	if err != nil {
		return nil, "", err
	}
	a.away(failures)
	m := newMerger(len(sources) > 1)
	for _, p := range parts {
		m.add(p.from.Name, p.plan, p.tables)
		if sent == "" {
			sent = p.plan.Exprs[0]
		}
	}
	if m.histograms > 0 {
		a.note(data.NoticeSeverityWarning, "%d histograms can't be drawn as lines: wrap the expression in "+
			"histogram_quantile(), histogram_sum() or histogram_count(), or use kind heatmap", m.histograms)
	}
	curves = m.curves()
	if q.FromAlert {
		curves = d.withoutEnded(ctx, &q, curves)
	}
	if len(curves) == 0 && len(failures) > 0 && q.FromAlert {
		// "No data" would be said of hosts that were not even asked.
		return nil, "", failures[0]
	}
	if len(curves) == 0 && q.Metric == query.MetricCPUFrequency && !q.Code() {
		d.noteNoFrequency(ctx, a)
	}
	if len(curves) > maxCurves && !q.FromAlert {
		a.note(data.NoticeSeverityWarning, "%d series are not shown: a panel gets at most %d. Choose fewer targets, "+
			"or group by less", len(curves)-maxCurves, maxCurves)
		curves = curves[:maxCurves]
	}
	return curves, sent, nil
}

// noteNoFrequency tells why there are no CPU frequencies, in the words of the agents.
func (d *Datasource) noteNoFrequency(ctx context.Context, a *answer) {
	answers := agent.Ask(ctx, d.set.Agents, func(ctx context.Context, ag *agent.Agent) (*pscopev1.ListTargetsResponse,
		error) {
		return ag.Targets(ctx, nil)
	})
	responses, _, _ := agent.Split(answers)
	said := map[string]bool{}
	for _, r := range responses {
		for _, l := range r.GetAgent().GetLacks() {
			if lack.IsKind(l, pscopev1.LackKind_LACK_KIND_FREQUENCIES) && !said[l.GetWhy()] {
				said[l.GetWhy()] = true
				a.note(data.NoticeSeverityInfo, "No CPU frequency on %s: %s. %s", r.GetAgent().GetHost(), l.GetWhy(),
					capital(l.GetFix()))
			}
		}
	}
}

func native(d query.Dialect) query.Dialect {
	d.Native = true
	return d
}

// merger makes one set of curves of what several sources answered.
type merger struct {
	several    bool
	order      []string
	by         map[string]*merged
	histograms int
}

type merged struct {
	labels data.Labels
	how    query.Merge
	points map[int64]point
}

type point struct{ value, count float64 }

func newMerger(several bool) *merger { return &merger{several: several, by: map[string]*merged{}} }

func (m *merger) add(source string, plan query.Plan, tables []model.Matrix) {
	for part, table := range tables {
		for _, s := range table {
			m.histograms += min(1, len(s.Histograms))
			if len(s.Values) == 0 {
				continue
			}
			c := m.curve(source, labelsOf(s.Metric), plan.Merge)
			for _, v := range s.Values {
				c.take(int64(v.Timestamp), float64(v.Value), part)
			}
		}
	}
}

// curve finds the curve of a label set. Where values of two sources can't be merged, the source becomes a label.
func (m *merger) curve(source string, labels data.Labels, how query.Merge) *merged {
	if how == query.MergeNone && m.several && labels["host"] == "" {
		labels["agent"] = source
	}
	id := labels.String()
	c := m.by[id]
	if c == nil {
		c = &merged{labels: labels, how: how, points: map[int64]point{}}
		m.by[id] = c
		m.order = append(m.order, id)
	}
	return c
}

// take adds a value. For averages, part 0 is the sum and part 1 the number of what is averaged.
func (c *merged) take(at int64, v float64, part int) {
	// "Not a number" is how PromQL says that there is none: of an empty histogram, of zero by zero.
	if math.IsNaN(v) {
		return
	}
	p, had := c.points[at]
	switch {
	case c.how == query.MergeAvg && part == 1:
		p.count += v
	case !had:
		p.value = v
	case c.how == query.MergeSum, c.how == query.MergeAvg:
		p.value += v
	case c.how == query.MergeMax:
		p.value = max(p.value, v)
	case c.how == query.MergeMin:
		p.value = min(p.value, v)
	default:
		p.value = v
	}
	c.points[at] = p
}

func (m *merger) curves() []frames.Curve {
	var out []frames.Curve
	for _, id := range m.order {
		c := m.by[id]
		curve := frames.Curve{Labels: c.labels}
		stamps := make([]int64, 0, len(c.points))
		for at := range c.points {
			stamps = append(stamps, at)
		}
		slices.Sort(stamps)
		for _, at := range stamps {
			p := c.points[at]
			v := p.value
			if c.how == query.MergeAvg {
				if p.count == 0 {
					continue
				}
				v /= p.count
			}
			curve.Times = append(curve.Times, time.UnixMilli(at).UTC())
			curve.Values = append(curve.Values, v)
		}
		if len(curve.Times) > 0 {
			out = append(out, curve)
		}
	}
	return out
}

func labelsOf(m model.Metric) data.Labels {
	l := make(data.Labels, len(m))
	for k, v := range m {
		l[string(k)] = string(v)
	}
	return l
}

// narrow turns an empty target into the busiest process: a new panel shows something at once, and not every P of every
// process.
func (d *Datasource) narrow(ctx context.Context, a *answer, q query.Query) query.Query {
	if !q.Target.Empty() || q.FromAlert || q.Metric == query.MetricCPUFrequency {
		return q
	}
	answers := agent.Ask(ctx, d.set.Histories(), func(ctx context.Context, h *agent.History) (model.Vector, error) {
		return h.Instant(ctx, q.BusiestExpr(h.Dialect(false)), q.To)
	})
	// A failure here shows again, and better, when the query itself is asked.
	vectors, _, _ := agent.Split(answers)
	var best *model.Sample
	for _, v := range vectors {
		for _, s := range v {
			if !math.IsNaN(float64(s.Value)) && (best == nil || s.Value > best.Value) {
				best = s
			}
		}
	}
	if best == nil {
		return q
	}
	q.Target = query.Target{
		Host: regexp.QuoteMeta(string(best.Metric["host"])), Process: regexp.QuoteMeta(string(best.Metric["process"])),
		PID: string(best.Metric["process_pid"]),
	}
	a.note(data.NoticeSeverityInfo, "Shown is the busiest process, %s (pid %s). Choose a process in the query to see "+
		"another; .* shows all",
		best.Metric["process"], best.Metric["process_pid"])
	return q
}

// needAgents is the error of kinds that only agents can answer.
func (d *Datasource) needAgents(q query.Query) error {
	if len(d.set.Agents) > 0 {
		return nil
	}
	return &query.Error{Field: "kind", What: fmt.Sprintf("%s can't be answered by an engine", q.Kind),
		Why:  "only agents have what it shows",
		Next: "Add the agents' addresses to the data source's settings, or use kind series"}
}
