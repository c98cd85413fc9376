package plugin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// life is a process as its series tells of it: the values of GOMAXPROCS from its first point in the range to its last.
type life struct {
	host, process string
	pid           int32
	points        []model.SamplePair
}

func (l *life) first() model.Time { return l.points[0].Timestamp }
func (l *life) last() model.Time  { return l.points[len(l.points)-1].Timestamp }

// events are what happened to processes, apart from stops, in the form of stops: a stretch of time with a reason. They
// are read from the history, so that an engine knows them as well as an agent, and are as exact as its points are
// dense.
func (d *Datasource) events(ctx context.Context, a *answer, q query.Query) ([]*pscopev1.Stop, error) {
	want := func(e query.Event) bool { return slices.Contains(q.Events, e) }
	if !want(query.EventGOMAXPROCS) && !want(query.EventRestarts) {
		return nil, nil
	}
	q.Metric = query.MetricGOMAXPROCS
	first, last := q.Range()
	expr := "max by (host, process, process_pid, runtime) (" + q.Matchers("go_runtime_gomaxprocs") + ")"
	answers := agent.Ask(ctx, d.set.Histories(), func(ctx context.Context, h *agent.History) (model.Matrix, error) {
		m, _, err := h.Range(ctx, expr, first, last, q.Step)
		return m, err
	})
	tables, failures, err := agent.Split(answers)
	if err != nil {
		return nil, err
	}
	a.away(failures)
	var lives []*life
	for _, table := range tables {
		for _, s := range table {
			if pid, err := strconv.ParseInt(string(s.Metric["process_pid"]), 10, 32); err == nil && len(s.Values) > 0 {
				lives = append(lives, &life{string(s.Metric["host"]), string(s.Metric["process"]), int32(pid),
					s.Values})
			}
		}
	}
	var out []*pscopev1.Stop
	if want(query.EventGOMAXPROCS) {
		for _, l := range lives {
			out = append(out, resizes(l)...)
		}
	}
	if want(query.EventRestarts) {
		out = append(out, restarts(perProcess(lives), first, last, q.Step)...)
	}
	return out, nil
}

// resizes are the changes of GOMAXPROCS, each from the last point before it to the first after it.
func resizes(l *life) (out []*pscopev1.Stop) {
	for i := 1; i < len(l.points); i++ {
		if old, now := l.points[i-1], l.points[i]; old.Value != now.Value {
			out = append(out, l.event(old.Timestamp, now.Timestamp,
				fmt.Sprintf("GOMAXPROCS %v → %v", old.Value, now.Value)))
		}
	}
	return out
}

// perProcess joins the lives of the runtimes of one process: a process starts with its first runtime and ends with its
// last.
func perProcess(lives []*life) []*life {
	type key struct {
		host, process string
		pid           int32
	}
	var out []*life
	index := map[key]*life{}
	for _, l := range lives {
		k := key{l.host, l.process, l.pid}
		known := index[k]
		if known == nil {
			known = &life{l.host, l.process, l.pid, slices.Clone(l.points)}
			index[k] = known
			out = append(out, known)
			continue
		}
		known.points = append(known.points, l.points...)
		slices.SortStableFunc(known.points,
			func(x, y model.SamplePair) int { return cmp.Compare(x.Timestamp, y.Timestamp) })
	}
	return out
}

// restarts pairs each process that begins in the range with the one of the same name and host that ended last before
// it. What has no partner started or ended. At the borders of the range nothing is said: there a series begins or ends
// in any case.
func restarts(lives []*life, from, to time.Time, step time.Duration) (out []*pscopev1.Stop) {
	begins := func(l *life) bool { return l.first().Time().Sub(from) > step }
	ends := func(l *life) bool { return to.Sub(l.last().Time()) > step }
	lives = slices.SortedFunc(slices.Values(lives), func(x, y *life) int { return cmp.Compare(x.first(), y.first()) })
	replaced := map[*life]bool{}
	for _, l := range lives {
		if !begins(l) {
			continue
		}
		var before *life
		for _, o := range lives {
			if o != l && !replaced[o] && o.host == l.host && o.process == l.process && ends(o) &&
				o.first() < l.first() &&
				o.last().Time().Sub(l.first().Time()) <= step && (before == nil || o.last() > before.last()) {
				before = o
			}
		}
		if before == nil {
			out = append(out, l.event(l.first(), l.first(), fmt.Sprintf("%s started (pid %d)", l.process, l.pid)))
			continue
		}
		replaced[before] = true
		out = append(out, l.event(min(before.last(), l.first()), max(before.last(), l.first()),
			fmt.Sprintf("%s restarted (pid %d → %d)", l.process, before.pid, l.pid)))
	}
	for _, l := range lives {
		if ends(l) && !replaced[l] {
			out = append(out, l.event(l.last(), l.last(), fmt.Sprintf("%s ended (pid %d)", l.process, l.pid)))
		}
	}
	return out
}

func (l *life) event(start, end model.Time, what string) *pscopev1.Stop {
	return &pscopev1.Stop{
		Key: &pscopev1.TargetKey{Pid: l.pid}, Process: l.process, Host: l.host, Reason: what,
		StartUnixNano: start.UnixNano(), EndUnixNano: end.UnixNano(),
	}
}
