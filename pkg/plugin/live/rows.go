package live

import (
	"slices"
	"strconv"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/plugin/frames"
	"github.com/p-scope/p-scope/pkg/plugin/query"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Watchable is true when the rows of a live query can be made from Watch alone; other queries are asked again and
// again.
func Watchable(q *query.Query) bool {
	switch q.Kind {
	case query.KindTimeline:
		return true
	case query.KindHeatmap, query.KindSeries:
		// GOMAXPROCS is in the description of a target, of which no rows are made.
		return q.Metric.Spec().Watched && q.Metric != query.MetricGOMAXPROCS && !q.Code()
	}
	return false
}

// Rows makes one row after the other from snapshots. Numbers are rates between a row and the one before, taken from
// totals, so that nothing is missed however rare the rows are.
type Rows struct {
	q       query.Query
	palette frames.Palette
	before  map[pKey]totals
	global  map[pKey]looks // of the global run queue; p is -1
	past    *Past
}

type pKey struct {
	source int // which agent
	target targetKey
	p      int32
}

type totals struct {
	at   int64
	now  *pscopev1.PNow
	wall int64
}

// NewRows prepares the rows of a query, in the shape in which QueryData answered its history. past are the lanes it
// had.
func NewRows(q query.Query, past *Past) *Rows {
	palette := frames.StatePalette()
	if q.Kind == query.KindTimeline && q.Metric == query.MetricThread {
		palette = frames.ThreadPalette()
	}
	if q.Kind == query.KindHeatmap {
		q = q.Lanes()
	}
	return &Rows{q: q, palette: palette, before: map[pKey]totals{}, past: past}
}

// Next makes the row for the newest snapshots, one per agent; those of agents that are away are nil. It is nil as long
// as there is nothing to compare with. Lanes that have ended are in it, empty, for as long as their past is in view.
func (r *Rows) Next(snapshots []*Snapshot) *data.Frame {
	var at time.Time
	for _, s := range snapshots {
		if s != nil && s.Err == nil && s.At.After(at) {
			at = s.At
		}
	}
	if at.IsZero() {
		return nil
	}
	// Panels draw milliseconds; finer times would only make each message longer.
	at = at.Truncate(time.Millisecond)
	if r.q.Kind == query.KindTimeline {
		return r.timeline(snapshots, at)
	}
	curves := r.curves(snapshots, at)
	if len(curves) == 0 && len(r.before) > 0 {
		return nil
	}
	return Row(&r.q, curves, r.past, at)
}

// Row is the row of a moment with the newest values, and with nothing for the lanes that had some in the past. It is
// nil when there are neither.
func Row(q *query.Query, curves []frames.Curve, past *Past, at time.Time) *data.Frame {
	labels := make([]data.Labels, len(curves))
	for i, c := range curves {
		labels[i] = c.Labels
	}
	ended, left := past.Ended(at, labels)
	if len(curves)+len(ended) == 0 && !left {
		return nil
	}
	for _, l := range ended {
		curves = append(curves, frames.Curve{Labels: l})
	}
	f := frames.Wide(curves, LookOf(q))
	if q.Kind == query.KindHeatmap {
		f = frames.Lanes(curves, LookOf(q))
	}
	if f.Rows() == 0 {
		// Nobody has a value now, and still time goes on: what was leaves the view.
		f.Extend(1)
		f.Fields[0].Set(0, at.UTC())
	}
	return f
}

// LookOf is how the numbers of a query are shown; history and live rows must agree in it.
func LookOf(q *query.Query) frames.Look {
	look := frames.Look{Name: string(q.Metric), Unit: q.Metric.Unit(), Step: q.Step, Legend: q.Legend, Share: q.Share()}
	if q.Code() {
		look.Name, look.Unit = "value", ""
	}
	return look
}

// each calls on for every P that has moved since the row before.
func (r *Rows) each(snapshots []*Snapshot, on func(t *TargetNow, p *pscopev1.PNow, before totals)) {
	seen := make(map[pKey]totals, len(r.before))
	for i, s := range snapshots {
		if s == nil || s.Err != nil {
			continue
		}
		for j := range s.Targets {
			t := &s.Targets[j]
			id := keyOf(t.Target)
			for _, p := range t.Ps {
				if r.q.PList != nil && !slices.Contains(r.q.PList, p.GetP()) {
					continue
				}
				key := pKey{i, id, p.GetP()}
				now := totals{at: s.At.UnixNano(), now: p, wall: sum(p.GetStateNanos())}
				before, known := r.before[key]
				switch {
				case !known || now.wall < before.wall:
					// New, or counting from zero again: comparable from the next row on.
					seen[key] = now
				case now.wall == before.wall:
					// The agent had nothing newer; its time counts towards the next row.
					seen[key] = before
				default:
					seen[key] = now
					on(t, p, before)
				}
			}
		}
	}
	r.before = seen
}

// group is what a curve's label set gathers.
type group struct {
	labels data.Labels
	things map[string]float64 // by what is aggregated over: the states of one P are summed into one
}

func (r *Rows) curves(snapshots []*Snapshot, at time.Time) []frames.Curve {
	groups := groups{by: r.q.Labels(), byID: map[string]*group{}}
	if r.q.Metric == query.MetricGlobalRunq {
		r.addGlobal(&groups, snapshots)
	} else {
		r.each(snapshots, func(t *TargetNow, p *pscopev1.PNow, before totals) { r.addP(&groups, t, p, before) })
	}
	curves := make([]frames.Curve, 0, len(groups.byID))
	for _, g := range groups.byID {
		curves = append(curves, frames.Curve{Labels: g.labels, Times: []time.Time{at.UTC()},
			Values: []float64{aggregate(r.q.Aggregate(), g.things)}})
	}
	return curves
}

// groups are what a query counts together.
type groups struct {
	by   []string
	byID map[string]*group
}

// add adds to what is counted together with other things of the same labels.
func (gs *groups) add(full data.Labels, thing string, value float64) {
	labels := data.Labels{}
	for _, k := range gs.by {
		if full[k] != "" {
			labels[k] = full[k]
		}
	}
	id := labels.String()
	g := gs.byID[id]
	if g == nil {
		g = &group{labels: labels, things: map[string]float64{}}
		gs.byID[id] = g
	}
	g.things[thing] += value
}

// addGlobal adds the global run queues.
func (r *Rows) addGlobal(groups *groups, snapshots []*Snapshot) {
	seen := map[pKey]looks{}
	for i, s := range snapshots {
		if s == nil || s.Err != nil {
			continue
		}
		for j := range s.Targets {
			if t := &s.Targets[j]; t.GlobalRunq >= 0 && len(t.Ps) > 0 {
				key := pKey{i, keyOf(t.Target), -1}
				before, known := r.global[key]
				if seen[key] = t.Global; !known {
					before = t.Global
				}
				l := targetLabels(t.Target)
				groups.add(l, l.String(), t.Global.mean(before, t.GlobalRunq))
			}
		}
	}
	r.global = seen
}

// addP adds one P.
func (r *Rows) addP(groups *groups, t *TargetNow, p *pscopev1.PNow, before totals) {
	full := targetLabels(t.Target)
	full["p"] = strconv.Itoa(int(p.GetP()))
	thing := full.String()
	wall := float64(sum(p.GetStateNanos()) - before.wall)
	switch r.q.Metric {
	case query.MetricState:
		for _, s := range orAll(r.q.PStates, pstate.States()) {
			full["state"] = s.String()
			groups.add(full, inThing(thing, groups.by, "state", s.String()),
				delta(p.GetStateNanos(), before.now.GetStateNanos(), int(s.Number()))/wall)
		}
	case query.MetricThread:
		for _, s := range orAll(r.q.ThreadStates, pstate.ThreadStates()) {
			full["thread_state"] = s.String()
			groups.add(full, inThing(thing, groups.by, "thread_state", s.String()),
				delta(p.GetThreadNanos(), before.now.GetThreadNanos(), int(s.Number()))/wall)
		}
	case query.MetricBusy:
		var busy float64
		for _, s := range query.Busy() {
			busy += delta(p.GetStateNanos(), before.now.GetStateNanos(), int(s.Number()))
		}
		for _, s := range query.Suspended() {
			busy -= delta(p.GetThreadNanos(), before.now.GetThreadNanos(), int(s.Number()))
		}
		groups.add(full, thing, max(busy, 0)/wall)
	case query.MetricDShare:
		groups.add(full, thing, float64(p.GetUninterruptibleNanos()-before.now.GetUninterruptibleNanos())/wall)
	case query.MetricRunq:
		if p.GetRunqDepth() >= 0 {
			now := looks{p.GetRunqLooks(), p.GetRunqSum()}
			groups.add(full, thing, now.mean(looks{before.now.GetRunqLooks(), before.now.GetRunqSum()}, p.GetRunqDepth()))
		}
	}
}

// looks are those at a run queue since it was first seen, and the goroutines seen in all of them.
type looks struct{ n, sum uint64 }

// mean is the mean depth since earlier looks, as the metrics have it; without a look since, the depth that was seen
// last.
func (l looks) mean(before looks, last int32) float64 {
	if l.n <= before.n || l.sum < before.sum {
		return float64(last)
	}
	return float64(l.sum-before.sum) / float64(l.n-before.n)
}

// inThing keeps the states of one P apart only where the query does.
func inThing(thing string, by []string, label, value string) string {
	if slices.Contains(by, label) {
		return thing + value
	}
	return thing
}

func aggregate(how string, things map[string]float64) float64 {
	var sum, low, high float64
	first := true
	for _, v := range things {
		sum += v
		if first {
			low, high, first = v, v, false
		}
		low, high = min(low, v), max(high, v)
	}
	switch how {
	case "sum":
		return sum
	case "max":
		return high
	case "min":
		return low
	default:
		return sum / float64(len(things))
	}
}

func (r *Rows) timeline(snapshots []*Snapshot, at time.Time) *data.Frame {
	var lanes []frames.Lane
	r.each(snapshots, func(t *TargetNow, p *pscopev1.PNow, before totals) {
		labels := targetLabels(t.Target)
		delete(labels, "container")
		delete(labels, "pod")
		labels["p"] = strconv.Itoa(int(p.GetP()))
		var held frames.Held
		if r.q.Metric == query.MetricThread {
			for _, s := range orAll(r.q.ThreadStates, pstate.ThreadStates()) {
				held[r.palette.Shade(0, s)] += int64(delta(p.GetThreadNanos(), before.now.GetThreadNanos(),
					int(s.Number())))
			}
		} else {
			for _, s := range orAll(r.q.PStates, pstate.States()) {
				held[r.palette.Shade(s, pstate.NoThread)] += int64(delta(p.GetStateNanos(), before.now.GetStateNanos(),
					int(s.Number())))
			}
			for _, s := range query.Suspended() {
				held[r.palette.Shade(pstate.Running, s)] += int64(delta(p.GetThreadNanos(), before.now.GetThreadNanos(),
					int(s.Number())))
			}
			r.palette.Uncover(&held)
			// Time in D is time in a P state, too; what is shown is D.
			if d := int64(p.GetUninterruptibleNanos() - before.now.GetUninterruptibleNanos()); d > 0 {
				held[r.palette.Shade(pstate.Running, pstate.Uninterruptible)] = d
			}
		}
		lane := frames.Lane{Labels: labels}
		if shade := r.palette.Prevailing(held); shade != nil {
			lane.Spans = []frames.Span{{Start: at.UnixNano(), End: at.UnixNano() + 1, Shade: *shade}}
		}
		lanes = append(lanes, lane)
	})
	if len(lanes) == 0 && len(r.before) > 0 {
		return nil
	}
	labels := make([]data.Labels, len(lanes))
	for i, l := range lanes {
		labels[i] = l.Labels
	}
	ended, left := r.past.Ended(at, labels)
	if len(lanes)+len(ended) == 0 && !left {
		return nil
	}
	for _, l := range ended {
		lanes = append(lanes, frames.Lane{Labels: l})
	}
	return frames.TimelineWide(lanes, r.palette, at.UTC(), at.UTC(), time.Nanosecond)
}

// targetLabels are the labels that the target's series have in the store.
func targetLabels(t *pscopev1.Target) data.Labels {
	l := data.Labels{"host": t.GetHost(), "process": t.GetProcess(),
		"process_pid": strconv.Itoa(int(t.GetKey().GetPid()))}
	for k, v := range map[string]string{"container": t.GetContainer(), "pod": t.GetPod(),
		"runtime": t.GetKey().GetRuntime()} {
		if v != "" {
			l[k] = v
		}
	}
	return l
}

func orAll[T any](some, all []T) []T {
	if len(some) > 0 {
		return some
	}
	return all
}

func sum(nanos []uint64) (s int64) {
	for _, n := range nanos {
		s += int64(n)
	}
	return s
}

func delta(now, before []uint64, i int) float64 {
	if i >= len(now) {
		return 0
	}
	if i >= len(before) {
		return float64(now[i])
	}
	return float64(int64(now[i] - before[i]))
}
