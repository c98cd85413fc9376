package plugin

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/frames"
	"github.com/p-scope/p-scope/pkg/plugin/query"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// selectorFor is the query's target in the service's words. It is nil when the agent has no process that the pid
// expression matches.
func selectorFor(ctx context.Context, ag *agent.Agent, q *query.Query) (*pscopev1.Selector, error) {
	s, ok := q.Selector()
	if ok {
		return s, nil
	}
	re, err := query.Anchored(q.Target.PID)
	if err != nil {
		return nil, err
	}
	resp, err := ag.Targets(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, t := range resp.GetTargets() {
		if re.MatchString(pidText(t)) {
			s.Targets = append(s.Targets, t.GetKey())
		}
	}
	if len(s.Targets) == 0 {
		return nil, nil
	}
	return s, nil
}

// askAgents asks every agent, leaving out those where the target has no process.
func askAgents[T any](ctx context.Context, d *Datasource, a *answer, q *query.Query,
	ask func(context.Context, *agent.Agent, *pscopev1.Selector) (T, error)) ([]T, error) {
	if err := d.needAgents(*q); err != nil {
		return nil, err
	}
	answers := agent.Ask(ctx, d.set.Agents, func(ctx context.Context, ag *agent.Agent) (T, error) {
		s, err := selectorFor(ctx, ag, q)
		if err != nil || s == nil {
			var none T
			return none, err
		}
		return ask(ctx, ag, s)
	})
	values, failures, err := agent.Split(answers)
	if err != nil {
		return nil, err
	}
	a.away(failures)
	return values, nil
}

// stops answers with stop-the-world intervals and whatever other events the query names, oldest first; of more than the
// limit the longest.
func (d *Datasource) stops(ctx context.Context, q query.Query) (answer, error) {
	a := answer{query: q}
	stops, err := d.events(ctx, &a, q)
	if err != nil {
		return a, err
	}
	var omitted uint64
	if slices.Contains(q.Events, query.EventStops) {
		responses, err := askAgents(ctx, d, &a, &q,
			func(ctx context.Context, ag *agent.Agent, s *pscopev1.Selector) (*pscopev1.StopsResponse, error) {
				return ag.Stops(ctx, &pscopev1.StopsRequest{Selector: s, StartUnixNano: q.From.UnixNano(),
					EndUnixNano: q.To.UnixNano(), Limit: int32(q.Limit)})
			})
		if err != nil {
			return a, err
		}
		for _, r := range responses {
			stops = append(stops, r.GetStops()...)
			omitted += r.GetOmitted()
		}
	}
	if len(stops) > q.Limit {
		slices.SortFunc(stops, func(x, y *pscopev1.Stop) int { return -cmp.Compare(length(x), length(y)) })
		omitted += uint64(len(stops) - q.Limit)
		stops = stops[:q.Limit]
	}
	slices.SortFunc(stops, func(x, y *pscopev1.Stop) int {
		return cmp.Compare(x.GetStartUnixNano(), y.GetStartUnixNano())
	})
	if omitted > 0 {
		a.note(data.NoticeSeverityInfo, "%d shorter ones are not shown: the limit is %d", omitted, q.Limit)
	}
	a.frames = data.Frames{frames.Stops(stops)}
	return a, nil
}

// length of a stop; one that lasts is longer than any that ended.
func length(s *pscopev1.Stop) int64 {
	if s.GetEndUnixNano() == 0 {
		return 1<<63 - 1
	}
	return s.GetEndUnixNano() - s.GetStartUnixNano()
}

// blocked answers with the threads that waited longest.
func (d *Datasource) blocked(ctx context.Context, q query.Query) (answer, error) {
	a := answer{query: q}
	responses, err := d.diagnoses(ctx, &a, &q)
	if err != nil {
		return a, err
	}
	var threads []*pscopev1.BlockedThread
	for _, r := range responses {
		threads = append(threads, r.GetBlocked()...)
	}
	slices.SortStableFunc(threads, func(x, y *pscopev1.BlockedThread) int {
		return -cmp.Or(
			cmp.Compare(spent(x, pscopev1.ThreadState_THREAD_STATE_UNINTERRUPTIBLE),
				spent(y, pscopev1.ThreadState_THREAD_STATE_UNINTERRUPTIBLE)),
			cmp.Compare(spent(x, pscopev1.ThreadState_THREAD_STATE_RUNNABLE),
				spent(y, pscopev1.ThreadState_THREAD_STATE_RUNNABLE)))
	})
	a.frames = data.Frames{frames.Blocked(threads[:min(len(threads), q.Limit)])}
	return a, nil
}

func spent(t *pscopev1.BlockedThread, s pscopev1.ThreadState) uint64 {
	if n := t.GetThreadNanos(); int(s) < len(n) {
		return n[s]
	}
	return 0
}

// diagnosis answers with findings, the gravest first.
func (d *Datasource) diagnosis(ctx context.Context, q query.Query) (answer, error) {
	a := answer{query: q}
	responses, err := d.diagnoses(ctx, &a, &q)
	if err != nil {
		return a, err
	}
	var findings []*pscopev1.Finding
	for _, r := range responses {
		findings = append(findings, r.GetFindings()...)
	}
	grave := map[string]int{"critical": 0, "warning": 1, "info": 2}
	slices.SortStableFunc(findings, func(x, y *pscopev1.Finding) int {
		return cmp.Or(cmp.Compare(grave[x.GetSeverity()], grave[y.GetSeverity()]),
			-cmp.Compare(x.GetValue(), y.GetValue()))
	})
	if len(findings) == 0 && len(a.notices) == 0 {
		// An empty table could as well be one that is still loading, or about nothing.
		targets, err := d.listTargets(ctx, &a, &q)
		if err != nil {
			return a, err
		}
		observed := func(t *pscopev1.Target) bool { return t.GetSource() != string(pstate.SourceRefused) }
		if slices.ContainsFunc(targets, observed) {
			findings = []*pscopev1.Finding{{Severity: "none", Kind: "none", Evidence: "Nothing stands out in this " +
				"range", Advice: "There is nothing to do"}}
		}
	}
	a.frames = data.Frames{frames.Diagnosis(findings)}
	return a, nil
}

func (d *Datasource) diagnoses(ctx context.Context, a *answer, q *query.Query) ([]*pscopev1.DiagnoseResponse, error) {
	return askAgents(ctx, d, a, q,
		func(ctx context.Context, ag *agent.Agent, s *pscopev1.Selector) (*pscopev1.DiagnoseResponse, error) {
			return ag.Diagnose(ctx, &pscopev1.DiagnoseRequest{
				Selector: s, StartUnixNano: q.From.UnixNano(), EndUnixNano: q.To.UnixNano(), TopThreads: int32(q.Limit),
			})
		})
}

// targets answers with every Go process, refused ones with the reason.
func (d *Datasource) targets(ctx context.Context, q query.Query) (answer, error) {
	a := answer{query: q}
	list, err := d.listTargets(ctx, &a, &q)
	if err != nil {
		return a, err
	}
	a.frames = data.Frames{frames.Targets(list)}
	return a, nil
}

// listTargets asks all agents; the order is by host, process and pid.
func (d *Datasource) listTargets(ctx context.Context, a *answer, q *query.Query) ([]*pscopev1.Target, error) {
	re, err := query.Anchored(q.Target.PID)
	if err != nil {
		return nil, err
	}
	if err := d.needAgents(*q); err != nil {
		return nil, err
	}
	s, plain := q.Selector()
	answers := agent.Ask(ctx, d.set.Agents, func(ctx context.Context, ag *agent.Agent) (*pscopev1.ListTargetsResponse,
		error) {
		return ag.Targets(ctx, s)
	})
	responses, failures, err := agent.Split(answers)
	if err != nil {
		return nil, err
	}
	a.away(failures)
	var list []*pscopev1.Target
	for _, r := range responses {
		for _, t := range r.GetTargets() {
			if plain || re.MatchString(pidText(t)) {
				list = append(list, t)
			}
		}
	}
	slices.SortFunc(list, func(x, y *pscopev1.Target) int {
		return cmp.Or(cmp.Compare(x.GetHost(), y.GetHost()), cmp.Compare(x.GetProcess(), y.GetProcess()),
			cmp.Compare(x.GetKey().GetPid(), y.GetKey().GetPid()))
	})
	return list, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func pidText(t *pscopev1.Target) string { return strconv.Itoa(int(t.GetKey().GetPid())) }
