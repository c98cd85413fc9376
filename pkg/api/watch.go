package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/internal/rate"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/pstate"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// maxNews bounds the intervals of one target in one message. A reader that left more waiting is told how many it
// missed.
const maxNews = 16 << 10

var errClosing = connect.NewError(connect.CodeUnavailable, errors.New("the agent is shutting down; connect again in a "+
	"moment"))

// Watch implements pscope.v1.ScopeService.
//
// Nothing is ever queued for a reader: each message is made when the one before has been taken, from the present state
// and from the ring. So a reader that is too slow sees fewer messages, each of the newest state, with what it missed
// counted.
func (s *service) Watch(ctx context.Context, req *connect.Request[pb.WatchRequest],
	to *connect.ServerStream[pb.WatchResponse]) error {
	hz := req.Msg.GetRateHz()
	switch {
	case hz == 0:
		hz = defaultRate
	case math.IsNaN(hz) || hz < 0 || hz > rate.Max:
		return connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("rate_hz is %v: it must be above 0 and at most %d, or 0 for %d", hz, rate.Max, defaultRate))
	}
	left, err := stream(&s.limits.watches, maxWatches, "Watch")
	if err != nil {
		return err
	}
	defer left()
	c, err := s.choose(req.Msg.GetSelector())
	if err != nil {
		return err
	}
	period := rate.Period(hz)
	w := &watcher{s: s, match: c.Matcher, transitions: req.Msg.GetTransitions(), period: period}
	resumed := w.resume(req.Msg.GetResumeAfterSeq())
	defer func() { w.log.leave(w.writer) }()
	tick := ticker{period}
	for {
		now := s.sampler.get(period / 2)
		msg := w.message(now)
		msg.Resync = !resumed && req.Msg.GetResumeAfterSeq() != 0
		resumed = true
		w.log.send(w.writer, msg.GetSeq(), w.targets)
		if err := to.Send(msg); err != nil {
			return err
		}
		if !tick.wait(ctx, s.closing) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errClosing
		}
	}
}

// watcher is one stream of Watch.
type watcher struct {
	s           *service
	match       *Matcher
	transitions bool
	period      time.Duration
	seq         uint64
	targets     map[pstate.Key]*watched
	log         *resumeLog
	writer      int // of log
}

// watched is what one stream has told of one target.
type watched struct {
	process string // for stops that come after its end
	told    *pb.Target
	cursor  timeline.Cursor
	ps      map[int32]*watchedP
}

// watchedP holds the transitions of one P that wait to be sent.
type watchedP struct {
	last    pb.PState // the state the last transition led to; unspecified at first
	pending []transition
	oldest  time.Time // when the first of pending was seen
}

// transition is the change to the state of an interval.
type transition struct {
	from pb.PState
	to   pstate.Interval
}

// resume continues an earlier stream, if there is one that sent seq and is remembered.
func (w *watcher) resume(seq uint64) bool {
	if log, writer, targets, ok := w.s.resumes.take(seq); ok {
		w.seq, w.targets, w.log, w.writer = seq, targets, log, writer
		// The reader may be a new page: it is told everything anew.
		for _, t := range w.targets {
			t.told = nil
		}
		return true
	}
	w.log = w.s.resumes.begin()
	w.seq, w.targets = w.log.base, make(map[pstate.Key]*watched)
	return false
}

// message makes the next message.
func (w *watcher) message(now *sample) *pb.WatchResponse {
	w.seq++
	msg := &pb.WatchResponse{Seq: w.seq, AtUnixNano: now.at.UnixNano()}
	lost := make(map[string]uint64)
	for i := range now.views {
		v := &now.views[i]
		if !w.match.Target(w.s.host, &v.Target) {
			continue
		}
		t := w.targets[v.Key]
		if t == nil {
			t = &watched{cursor: w.s.timeline.Cursor(v.Key), ps: make(map[int32]*watchedP)}
			w.targets[v.Key] = t
		}
		t.process = v.Process
		msg.Targets = append(msg.Targets, w.update(t, v, now.at, lost))
	}
	for key, t := range w.targets {
		if now.byKey[key] != nil {
			continue
		}
		u := &pb.TargetUpdate{Target: &pb.Target{Key: pbKey(key)}, GlobalRunqDepth: -1, Ended: true}
		w.news(t, key, u, now.at, lost, true)
		msg.Targets = append(msg.Targets, u)
		delete(w.targets, key)
	}
	msg.Lost = pbLoss(lost)
	return msg
}

func (w *watcher) update(t *watched, v *pstate.TargetView, at time.Time, lost map[string]uint64) *pb.TargetUpdate {
	u := &pb.TargetUpdate{GlobalRunqDepth: v.GlobalRunq, GlobalRunqLooks: v.GlobalRunqLooks,
		GlobalRunqSum: v.GlobalRunqSum}
	if full := pbTarget(w.s.host, &v.Target, v.GOMAXPROCS, 0); t.told == nil || !proto.Equal(t.told, full) {
		t.told, u.Target = full, full
	} else {
		u.Target = &pb.Target{Key: pbKey(v.Key)}
	}
	for i := range v.Ps {
		if w.match.P(v.Ps[i].P) {
			u.Ps = append(u.Ps, pbNow(&v.Ps[i]))
		}
	}
	w.news(t, v.Key, u, at, lost, w.period >= w.s.batchDelay)
	return u
}

// news adds stops, and transitions in batches: one that is full or has waited long enough goes out, or every one if all
// is set.
func (w *watcher) news(t *watched, key pstate.Key, u *pb.TargetUpdate, at time.Time, lost map[string]uint64, all bool) {
	limit := maxNews
	if !w.transitions {
		limit = -1
	}
	n := w.s.timeline.Since(key, t.cursor, limit)
	t.cursor = n.Next
	if n.Missed > 0 {
		lost[loss.SlowReader] += n.Missed
	}
	if n.MissedStops > 0 {
		lost[loss.SlowReaderStops] += n.MissedStops
	}
	for i := range n.Stops {
		u.Stops = append(u.Stops, pbStop(w.s.host, key, t.process, &n.Stops[i]))
	}
	for _, iv := range n.Intervals {
		if !w.match.P(iv.P) {
			continue
		}
		p := t.ps[iv.P]
		if p == nil {
			p = &watchedP{}
			t.ps[iv.P] = p
		}
		if len(p.pending) == 0 {
			p.oldest = at
		}
		p.pending = append(p.pending, transition{from: p.last, to: iv})
		p.last = pbState(iv.State)
		if len(p.pending) == w.s.batchSize {
			u.Transitions = append(u.Transitions, pbBatch(iv.P, p.pending))
			p.pending = p.pending[:0]
		}
	}
	for id, p := range t.ps {
		if len(p.pending) > 0 && (all || at.Sub(p.oldest) >= w.s.batchDelay) {
			u.Transitions = append(u.Transitions, pbBatch(id, p.pending))
			p.pending = p.pending[:0]
		}
	}
}
