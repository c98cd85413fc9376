package plugin

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/prometheus/common/model"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/frames"
	"github.com/p-scope/p-scope/pkg/plugin/query"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// timeline answers with the raw intervals of the agents' rings. Before their beginning, states sampled from the store
// stand in.
func (d *Datasource) timeline(ctx context.Context, q query.Query) (answer, error) {
	a := answer{streams: len(d.set.Agents) > 0}
	q = d.narrow(ctx, &a, q)
	a.query = q
	palette := frames.StatePalette()
	if q.Metric == query.MetricThread {
		palette = frames.ThreadPalette()
	}
	lanes, err := d.rawLanes(ctx, &a, &q, palette)
	if err != nil {
		return a, err
	}
	if gap := lanes.gap(&q); gap {
		if err := d.sampledLanes(ctx, &a, &q, palette, lanes); err != nil {
			// The raw part is worth showing by itself.
			if len(lanes.by) == 0 {
				return a, err
			}
			a.note(data.NoticeSeverityWarning, "The time before the agents' raw intervals is missing: %v", err)
		}
	}
	list := lanes.list()
	if q.Live {
		first, last := q.Range()
		a.frames = data.Frames{frames.TimelineWide(list, palette, first, last, q.Step)}
	} else {
		a.frames = frames.Timeline(list, palette, q.MaxPoints)
	}
	return a, nil
}

// laneSet are the lanes found so far, by label set.
type laneSet struct {
	by map[string]*laneState
	// dropped is true when an agent's ring no longer reaches back to the beginning of the range: then a P may have no
	// lane here, while another that has been idle all the time still has its one long interval.
	dropped bool
}

type laneState struct {
	frames.Lane
	// born is when the process started, in Unix nanoseconds; nothing can be known before.
	born int64
	// rawFrom is where raw intervals begin; 0 when there are none.
	rawFrom int64
}

func (l *laneSet) lane(labels data.Labels) *laneState {
	id := labels.String()
	s := l.by[id]
	if s == nil {
		s = &laneState{Lane: frames.Lane{Labels: labels}}
		l.by[id] = s
	}
	return s
}

// gap is true when some lane might have a past that its raw intervals don't reach.
func (l *laneSet) gap(q *query.Query) bool {
	if len(l.by) == 0 || l.dropped {
		return true
	}
	tolerance := max(2*q.Step, 3*time.Second).Nanoseconds()
	for _, s := range l.by {
		if s.rawFrom-max(q.From.UnixNano(), s.born) > tolerance {
			return true
		}
	}
	return false
}

func (l *laneSet) list() []frames.Lane {
	out := make([]frames.Lane, 0, len(l.by))
	for _, s := range l.by {
		if len(s.Spans) > 0 {
			out = append(out, s.Lane)
		}
	}
	return out
}

// rawLanes asks the agents for intervals.
func (d *Datasource) rawLanes(ctx context.Context, a *answer, q *query.Query, palette frames.Palette) (*laneSet,
	error) {
	lanes := &laneSet{by: map[string]*laneState{}}
	if len(d.set.Agents) == 0 {
		return lanes, nil
	}
	answers := agent.Ask(ctx, d.set.Agents, func(ctx context.Context, ag *agent.Agent) (*pscopev1.IntervalsResponse,
		error) {
		s, err := selectorFor(ctx, ag, q)
		if err != nil || s == nil {
			return nil, err
		}
		return ag.Intervals(ctx, &pscopev1.IntervalsRequest{
			Selector: s, StartUnixNano: q.From.UnixNano(), EndUnixNano: q.To.UnixNano(), MaxPerP: int32(q.MaxPoints),
		})
	})
	responses, failures, err := agent.Split(answers)
	if err != nil && d.set.Engine == nil {
		return nil, err
	}
	a.away(failures)
	from, to := q.From.UnixNano(), q.To.UnixNano()
	lost := map[string]uint64{}
	for _, r := range responses {
		for reason, n := range loss.Of(r) {
			lost[reason] += n
		}
		lanes.dropped = lanes.dropped || loss.Dropped(r)
		for _, t := range r.GetTargets() {
			for _, p := range t.GetPs() {
				s := lanes.lane(laneLabels(t.GetTarget(), p.GetP()))
				s.born = t.GetTarget().GetStartedUnixNano()
				for _, iv := range frames.Intervals(p) {
					if s.rawFrom == 0 {
						s.rawFrom = max(iv.Start, 1)
					}
					start, end := max(iv.Start, from), min(iv.End, to)
					if start < end && shows(q, iv.State, iv.Thread) {
						s.Spans = append(s.Spans,
							frames.Span{Start: start, End: end, Shade: palette.Shade(iv.State, iv.Thread)})
					}
				}
			}
		}
	}
	for _, reason := range sortedKeys(lost) {
		if lost[reason] > 0 {
			a.note(data.NoticeSeverityWarning, "%d intervals of this range are missing (%s)", lost[reason], reason)
		}
	}
	return lanes, nil
}

// shows is true for what the query's filters let through.
func shows(q *query.Query, s pstate.State, ts pstate.ThreadState) bool {
	if q.Metric == query.MetricThread {
		return len(q.ThreadStates) == 0 || slices.Contains(q.ThreadStates, ts)
	}
	return len(q.PStates) == 0 || slices.Contains(q.PStates, s)
}

// sampledLanes puts the prevailing state of each step, taken from the store, before the raw intervals.
func (d *Datasource) sampledLanes(ctx context.Context, a *answer, q *query.Query, palette frames.Palette,
	lanes *laneSet) error {
	answers := agent.Ask(ctx, d.set.Histories(), func(ctx context.Context, h *agent.History) ([]model.Matrix, error) {
		return sampledShares(ctx, h, q)
	})
	parts, failures, err := agent.Split(answers)
	if err != nil {
		return err
	}
	a.away(failures)
	until := lanes.addSampled(q, palette, parts)
	if until > 0 {
		a.note(data.NoticeSeverityInfo, "Before %s no agent holds raw intervals any more: the states there are "+
			"sampled from the store, the prevailing one for every %s",
			time.Unix(0, until).UTC().Format("15:04:05 UTC"), q.Step)
	}
	return nil
}

// sampledShares asks one history for the shares of time that sampledShade understands, in its order.
func sampledShares(ctx context.Context, h *agent.History, q *query.Query) (out []model.Matrix, err error) {
	first, last := q.Range()
	dialect := h.Dialect(false)
	states, dShare, suspended := q.StateShareExprs(dialect)
	exprs := []string{states, dShare, suspended}
	if q.Metric == query.MetricThread {
		exprs = []string{q.ThreadShareExpr(dialect)}
	}
	for _, e := range exprs {
		m, _, err := h.Range(ctx, e, first, last, q.Step)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// addSampled fills the lanes, before their raw intervals, with the state that prevails in each step. It gives the end of
// the last one, in Unix nanoseconds; 0: none was added.
func (s *laneSet) addSampled(q *query.Query, palette frames.Palette, parts [][]model.Matrix) (until int64) {
	spans, labels := prevailing(q, palette, parts)
	for id, list := range spans {
		lane := s.lane(labels[id])
		for _, span := range list {
			if lane.rawFrom != 0 {
				span.End = min(span.End, lane.rawFrom)
			}
			if span.Start < span.End {
				lane.Spans = append(lane.Spans, span)
				until = max(until, span.End)
			}
		}
		slices.SortFunc(lane.Spans, func(a, b frames.Span) int { return cmp.Compare(a.Start, b.Start) })
	}
	return until
}

// prevailing gives the state that prevails in each step of each lane, and the lanes' labels, both by lane.
func prevailing(q *query.Query, palette frames.Palette, parts [][]model.Matrix) (map[string][]frames.Span,
	map[string]data.Labels) {
	type cell struct {
		lane string
		at   int64
	}
	held := map[cell]*frames.Held{}
	labels := map[string]data.Labels{}
	for _, tables := range parts {
		for part, m := range tables {
			for _, series := range m {
				shade, ok := sampledShade(q, palette, series.Metric, part)
				if !ok {
					continue
				}
				l := labelsOf(series.Metric)
				delete(l, "state")
				delete(l, "thread_state")
				lane := l.String()
				labels[lane] = l
				for _, v := range series.Values {
					c := cell{lane, int64(v.Timestamp) * int64(time.Millisecond)}
					if held[c] == nil {
						held[c] = &frames.Held{}
					}
					held[c][shade] += int64(float64(v.Value) * 1e9)
				}
			}
		}
	}
	spans := map[string][]frames.Span{}
	for c, h := range held {
		palette.Uncover(h)
		if shade := palette.Prevailing(*h); shade != nil {
			// A rate at an instant speaks of the step before it.
			spans[c.lane] = append(spans[c.lane], frames.Span{Start: max(c.at-q.Step.Nanoseconds(), q.From.UnixNano()),
				End: c.at, Shade: *shade})
		}
	}
	return spans, labels
}

// sampledShade is what a series of shares of time counts towards.
func sampledShade(q *query.Query, palette frames.Palette, m model.Metric, part int) (frames.Shade, bool) {
	if q.Metric == query.MetricThread {
		ts, ok := pstate.ParseThreadState(string(m["thread_state"]))
		return palette.Shade(0, ts), ok && shows(q, 0, ts)
	}
	switch part {
	case 1:
		return palette.Shade(pstate.Running, pstate.Uninterruptible), true
	case 2:
		ts, ok := pstate.ParseThreadState(string(m["thread_state"]))
		return palette.Shade(pstate.Running, ts), ok && ts.Suspended()
	}
	s, ok := pstate.ParseState(string(m["state"]))
	return palette.Shade(s, pstate.NoThread), ok && shows(q, s, pstate.NoThread)
}

// laneLabels are the labels of a P's lane; the store's series have the same.
func laneLabels(t *pscopev1.Target, p int32) data.Labels {
	l := data.Labels{
		"host": t.GetHost(), "process": t.GetProcess(), "process_pid": strconv.Itoa(int(t.GetKey().GetPid())),
		"p": strconv.Itoa(int(p)),
	}
	if name := t.GetKey().GetRuntime(); name != "" {
		l["runtime"] = name
	}
	return l
}
