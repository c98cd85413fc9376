package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/pstate"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// captureEvery is how often a capture sends what has closed since.
const captureEvery = 250 * time.Millisecond

// Capture implements pscope.v1.ScopeService. Its last message holds the intervals that were still open, cut at the end.
func (s *service) Capture(ctx context.Context, req *connect.Request[pb.CaptureRequest],
	to *connect.ServerStream[pb.CaptureResponse]) error {
	d := time.Duration(req.Msg.GetDurationNanos())
	if d < 0 || d > maxCapture {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("duration_nanos is %v: it must be at most %v, "+
			"or 0 to go on until you close the stream", d, maxCapture))
	}
	if d == 0 {
		d = maxCapture
	}
	left, err := stream(&s.limits.captures, maxCaptures, "Capture")
	if err != nil {
		return err
	}
	defer left()
	c, err := s.choose(req.Msg.GetSelector())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	cursors := make(map[pstate.Key]timeline.Cursor)
	targets := make(map[pstate.Key]*pstate.Target)
	ends := make(map[pstate.Key]map[int32]int64)
	begin := time.Now().UnixNano()
	tick := ticker{captureEvery}
	for {
		now := s.sampler.get(captureEvery / 2)
		msg := &pb.CaptureResponse{AtUnixNano: now.at.UnixNano()}
		lost := make(map[string]uint64)
		for i := range now.views {
			v := &now.views[i]
			if _, ok := cursors[v.Key]; !ok && c.Target(s.host, &v.Target) {
				cursors[v.Key] = s.timeline.Cursor(v.Key)
				known := v.Target // a copy: the views it is part of must not be held
				targets[v.Key] = &known
				ends[v.Key] = make(map[int32]int64)
			}
		}
		last := ctx.Err() != nil
		for key, cursor := range cursors {
			n := s.timeline.Since(key, cursor, captureNews)
			cursors[key] = n.Next
			lost[loss.SlowReader] += n.Missed + n.MissedStops
			for i := range n.Stops {
				msg.Stops = append(msg.Stops, pbStop(s.host, key, targets[key].Process, &n.Stops[i]))
			}
			ivs := n.Intervals
			if last {
				ivs = append(ivs, now.open(key)...)
			}
			if out := byP(ivs, begin, ends[key], c.Matcher); len(out) > 0 {
				msg.Intervals = append(msg.Intervals,
					&pb.TargetIntervals{Target: pbTarget(s.host, targets[key], now.gomaxprocs(key), n.Ended), Ps: out})
			}
			if now.byKey[key] == nil {
				delete(cursors, key)
			}
		}
		msg.Lost = pbLoss(lost)
		if err := to.Send(msg); err != nil {
			return err
		}
		if last {
			return nil
		}
		if !tick.wait(ctx, s.closing) && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errClosing
		}
	}
}

// byP sorts intervals by P, cuts away what lies before begin or was sent already, and puts them into columns.
func byP(ivs []pstate.Interval, begin int64, ends map[int32]int64, m *Matcher) (out []*pb.PIntervals) {
	ps := make(map[int32][]pstate.Interval)
	for _, iv := range ivs {
		iv.Start = max(iv.Start, begin, ends[iv.P])
		if iv.End <= iv.Start || !m.P(iv.P) {
			continue
		}
		ends[iv.P] = iv.End
		ps[iv.P] = append(ps[iv.P], iv)
	}
	for p, ivs := range ps {
		out = append(out, pbIntervals(p, ivs))
	}
	slices.SortFunc(out, func(a, b *pb.PIntervals) int { return int(a.P) - int(b.P) })
	return out
}
