package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"connectrpc.com/connect"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/cpufreq"
	"github.com/p-scope/p-scope/pkg/diagnose"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/pstate"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// The service's defaults and limits, as scope.proto states them.
const (
	defaultStops   = 10_000
	defaultThreads = 20
	defaultRange   = time.Minute
	defaultRate    = 5
	maxCapture     = time.Hour

	defaultIntervalsPer = timeline.DefaultMaxPerP
)

// service implements pscope.v1.ScopeService.
type service struct {
	host, version string
	started       time.Time
	collector     Collector
	timeline      *timeline.Store
	sampler       *sampler
	registry      *registry
	history       *diagnose.History
	frequency     *frequency
	resumes       *resumes
	limits        *limits
	batchSize     int
	batchDelay    time.Duration
	closing       chan struct{}
	log           *slog.Logger
}

// fresh is how old the present state may be in an answer to a single question.
const fresh = 100 * time.Millisecond

// chosen is what a selector found.
type chosen struct {
	*Matcher
	targets []known
}

// choose finds the targets a selector means. A pid or key that names no target is an error, so that nobody waits for
// what never comes.
func (s *service) choose(sel *pb.Selector) (*chosen, error) {
	m, err := NewMatcher(sel)
	if err != nil {
		return nil, err
	}
	c := &chosen{Matcher: m}
	all := s.registry.refresh(time.Now())
	for _, t := range all {
		if m.Target(s.host, &t.Target) {
			c.targets = append(c.targets, t)
		}
	}
	for _, pid := range m.pids {
		i := slices.IndexFunc(all, func(t known) bool { return t.PID == pid })
		if i < 0 {
			return nil, connect.NewError(connect.CodeNotFound,
				fmt.Errorf("no Go process with pid %d is known here; ListTargets gives those that are (a process is "+
					"found within a second of its start)", pid))
		}
		if all[i].Source == pstate.SourceRefused {
			return nil, connect.NewError(connect.CodeFailedPrecondition,
				fmt.Errorf("process %s (pid %d) can't be observed: %s", all[i].Process, pid, all[i].Reason))
		}
	}
	for _, key := range m.keys {
		if !slices.ContainsFunc(all, func(t known) bool { return t.Key == key }) {
			return nil, connect.NewError(connect.CodeNotFound,
				fmt.Errorf("target %s is not known here: the process has ended and its intervals have left the ring; "+
					"ListTargets gives those that are known", key))
		}
	}
	return c, nil
}

func (c *chosen) keys() []pstate.Key {
	keys := make([]pstate.Key, len(c.targets))
	for i := range c.targets {
		keys[i] = c.targets[i].Key
	}
	return keys
}

// countPs is about how many Ps an answer is about. Of a target that has ended it is not known; most have no more than
// endedPs.
func (c *chosen) countPs(now *sample) (n int) {
	for i := range c.targets {
		v := now.byKey[c.targets[i].Key]
		switch {
		case len(c.ps) > 0:
			n += len(c.ps)
		case v != nil:
			n += len(v.Ps)
		default:
			n += endedPs
		}
	}
	return n
}

func (c *chosen) target(key pstate.Key) *known {
	i := slices.IndexFunc(c.targets, func(t known) bool { return t.Key == key })
	return &c.targets[i]
}

// span checks a range; both zero is the last minute, an end of zero is now.
func span(start, end int64) (int64, int64, error) {
	if end == 0 {
		end = time.Now().UnixNano()
	}
	if start == 0 {
		start = end - int64(defaultRange)
	}
	if start < 0 || end < 0 {
		return 0, 0, connect.NewError(connect.CodeInvalidArgument,
			errors.New("start_unix_nano and end_unix_nano count nanoseconds since 1970 and can't be negative"))
	}
	if start >= end {
		return 0, 0, connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("the range ends (%s) before it begins (%s): swap start_unix_nano and end_unix_nano",
				time.Unix(0, end).UTC().Format(time.RFC3339Nano), time.Unix(0, start).UTC().Format(time.RFC3339Nano)))
	}
	return start, end, nil
}

func notNegative(name string, v int32) error {
	if v < 0 {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%s is %d: it must be 0 for the default, or a "+
			"positive number", name, v))
	}
	return nil
}

// ListTargets implements pscope.v1.ScopeService.
func (s *service) ListTargets(_ context.Context, req *connect.Request[pb.ListTargetsRequest]) (
	*connect.Response[pb.ListTargetsResponse], error) {
	m, err := NewMatcher(req.Msg.GetSelector())
	if err != nil {
		return nil, err
	}
	now := s.sampler.get(fresh)
	res := &pb.ListTargetsResponse{Agent: s.agent()}
	for _, t := range s.registry.refresh(time.Now()) {
		if m.Target(s.host, &t.Target) {
			res.Targets = append(res.Targets, pbTarget(s.host, &t.Target, now.gomaxprocs(t.Key), t.ended))
		}
	}
	return connect.NewResponse(res), nil
}

func (n *sample) gomaxprocs(key pstate.Key) int32 {
	if v := n.byKey[key]; v != nil {
		return v.GOMAXPROCS
	}
	return 0
}

func (s *service) agent() *pb.Agent {
	info := s.collector.Agent()
	out := &pb.Agent{Version: s.version, Host: s.host, Kernel: info.Kernel, Arch: info.Arch, Mode: info.Mode,
		StartedUnixNano: s.started.UnixNano()}
	for i := range info.Lacks {
		out.Lacks = append(out.Lacks, pbLack(&info.Lacks[i]))
	}
	for _, m := range info.GivenUp {
		out.GivenUp = append(out.GivenUp, &pb.Measure{Part: m.Part, Name: m.Name, Holds: m.Holds, Detail: m.Detail})
	}
	if _, err := s.frequency.read(time.Now()); errors.Is(err, cpufreq.ErrNone) {
		l := lack.Lack{What: lack.Frequencies, Why: err.Error(), Fix: cpufreq.FixNone}
		out.Lacks = append(out.Lacks, pbLack(&l))
	}
	return out
}

// Intervals implements pscope.v1.ScopeService.
func (s *service) Intervals(ctx context.Context,
	req *connect.Request[pb.IntervalsRequest]) (*connect.Response[pb.IntervalsResponse], error) {
	start, end, err := span(req.Msg.GetStartUnixNano(), req.Msg.GetEndUnixNano())
	if err != nil {
		return nil, err
	}
	if err := notNegative("max_per_p", req.Msg.GetMaxPerP()); err != nil {
		return nil, err
	}
	done, err := s.limits.call(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := s.choose(req.Msg.GetSelector())
	if err != nil {
		return nil, err
	}
	res := &pb.IntervalsResponse{}
	if len(c.targets) == 0 {
		return connect.NewResponse(res), nil
	}
	now := s.sampler.get(fresh)
	found := s.timeline.Intervals(timeline.Query{
		Keys: c.keys(), Ps: c.ps, Start: start, End: end, MaxPerP: perP(int(req.Msg.GetMaxPerP()), c.countPs(now)),
		Open: now.open,
	})
	for _, t := range found.Targets {
		k := c.target(t.Key)
		out := &pb.TargetIntervals{Target: pbTarget(s.host, &k.Target, now.gomaxprocs(t.Key), k.ended)}
		for _, p := range t.Ps {
			out.Ps = append(out.Ps, pbIntervals(p.P, p.Intervals))
		}
		res.Targets = append(res.Targets, out)
	}
	if found.HeldFrom > start {
		// How many were given up in this range is not known any more; that some were is.
		res.HeldFromUnixNano = found.HeldFrom
		found.Lost[loss.NotHeldBefore(found.HeldFrom)]++
	}
	res.Lost = pbLoss(found.Lost)
	return connect.NewResponse(res), nil
}

// open gives the intervals of a target that go on now.
func (n *sample) open(key pstate.Key) (ivs []pstate.Interval) {
	v := n.byKey[key]
	if v == nil {
		return nil
	}
	for i := range v.Ps {
		p := &v.Ps[i]
		if p.Since < v.At {
			ivs = append(ivs, pstate.Interval{P: p.P, State: p.State, Thread: p.Thread, Start: p.Since, End: v.At})
		}
	}
	return ivs
}

// Stops implements pscope.v1.ScopeService.
func (s *service) Stops(ctx context.Context,
	req *connect.Request[pb.StopsRequest]) (*connect.Response[pb.StopsResponse], error) {
	start, end, err := span(req.Msg.GetStartUnixNano(), req.Msg.GetEndUnixNano())
	if err != nil {
		return nil, err
	}
	if err := notNegative("limit", req.Msg.GetLimit()); err != nil {
		return nil, err
	}
	done, err := s.limits.call(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := s.choose(req.Msg.GetSelector())
	if err != nil {
		return nil, err
	}
	res := &pb.StopsResponse{}
	if len(c.targets) == 0 {
		return connect.NewResponse(res), nil
	}
	limit := min(int(req.Msg.GetLimit()), maxStops)
	if limit == 0 {
		limit = defaultStops
	}
	found := s.timeline.Stops(timeline.Query{Keys: c.keys(), Start: start, End: end, Limit: limit})
	for i := range found.Stops {
		stop := &found.Stops[i]
		res.Stops = append(res.Stops, pbStop(s.host, stop.Key, c.target(stop.Key).Process, &stop.Stop))
	}
	res.Omitted = found.Omitted
	return connect.NewResponse(res), nil
}

// Diagnose implements pscope.v1.ScopeService.
func (s *service) Diagnose(ctx context.Context,
	req *connect.Request[pb.DiagnoseRequest]) (*connect.Response[pb.DiagnoseResponse], error) {
	start, end, err := span(req.Msg.GetStartUnixNano(), req.Msg.GetEndUnixNano())
	if err != nil {
		return nil, err
	}
	if err := notNegative("top_threads", req.Msg.GetTopThreads()); err != nil {
		return nil, err
	}
	done, err := s.limits.call(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := s.choose(req.Msg.GetSelector())
	if err != nil {
		return nil, err
	}
	now := s.sampler.get(fresh)
	res := &pb.DiagnoseResponse{}
	var windows []diagnose.Window
	for i := range now.views {
		v := &now.views[i]
		if !c.Target(s.host, &v.Target) {
			continue
		}
		w, ok := s.history.Window(v, start, end)
		if !ok {
			continue
		}
		w.Ps = slices.DeleteFunc(w.Ps, func(p diagnose.PWindow) bool { return !c.P(p.P) })
		for _, stop := range s.timeline.Stops(timeline.Query{Keys: []pstate.Key{v.Key}, Start: w.Start,
			End: w.End}).Stops {
			w.Stops = append(w.Stops, stop.Stop)
		}
		windows = append(windows, w)
		for _, f := range diagnose.Find(&w) {
			res.Findings = append(res.Findings, &pb.Finding{
				Key: pbKey(v.Key), Process: v.Process, Host: s.host, Ps: f.Ps, Kind: string(f.Kind),
				Severity: string(f.Severity),
				Evidence: f.Evidence, Advice: f.Advice, Value: f.Value,
			})
		}
	}
	top := int(req.Msg.GetTopThreads())
	if top == 0 {
		top = defaultThreads
	}
	for _, b := range diagnose.TopBlocked(windows, top) {
		out := &pb.BlockedThread{
			Target: pbTarget(s.host, &b.Target, now.gomaxprocs(b.Target.Key), 0), Tid: b.TID, Comm: b.Comm, LastP: b.P,
			State:         pbThread(b.State),
			SinceUnixNano: b.Since, ThreadNanos: make([]uint64, pstate.NumThreadStates+1),
		}
		for ts, d := range b.In {
			out.ThreadNanos[pbThread(pstate.ThreadState(ts))] = nanos(d)
		}
		res.Blocked = append(res.Blocked, out)
	}
	return connect.NewResponse(res), nil
}
