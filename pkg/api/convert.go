package api

import (
	"maps"
	"slices"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

func pbState(s pstate.State) pb.PState             { return pb.PState(s.Number()) }
func pbThread(s pstate.ThreadState) pb.ThreadState { return pb.ThreadState(s.Number()) }
func pbKey(k pstate.Key) *pb.TargetKey {
	return &pb.TargetKey{Pid: k.PID, StartTime: k.StartTime, Runtime: k.Runtime}
}
func isClear(t *pstate.Target) bool { return t.Started.IsZero() }
func nanos[D ~int64](d D) uint64    { return uint64(max(0, d)) }

const mergedInterval, mergedTransition = 1 << 8, 1 << 12

func pbTarget(host string, t *pstate.Target, gomaxprocs int32, ended int64) *pb.Target {
	out := &pb.Target{
		Key: pbKey(t.Key), Process: t.Process, Exe: t.Exe, Cmdline: t.Cmdline, GoVersion: t.GoVersion, Module: t.Module,
		Source: string(t.Source), Layout: string(t.Layout), Reason: t.Reason, Container: t.Container, Pod: t.Pod,
		Namespace: t.Namespace, Cgroup: t.Cgroup, Gomaxprocs: gomaxprocs, Host: host, EndedUnixNano: ended,
	}
	if !isClear(t) {
		out.StartedUnixNano = t.Started.UnixNano()
	}
	return out
}

func pbStop(host string, key pstate.Key, process string, s *pstate.Stop) *pb.Stop {
	out := &pb.Stop{Key: pbKey(key), Process: process, Host: host, StartUnixNano: s.Start, EndUnixNano: s.End,
		Reason: s.Reason}
	for _, a := range s.Arrivals {
		out.Arrivals = append(out.Arrivals, &pb.StopArrival{P: a.P, AfterNanos: nanos(a.At - s.Start)})
	}
	return out
}

// pbIntervals puts the intervals of one P into columns.
func pbIntervals(p int32, ivs []pstate.Interval) *pb.PIntervals {
	out := &pb.PIntervals{
		P: p, GapNanos: make([]uint64, len(ivs)), DurationNanos: make([]uint64, len(ivs)),
		Code: make([]uint32, len(ivs)),
	}
	if len(ivs) == 0 {
		return out
	}
	out.BaseUnixNano = ivs[0].Start
	last := out.BaseUnixNano
	for i, iv := range ivs {
		out.GapNanos[i] = nanos(iv.Start - last)
		out.DurationNanos[i] = nanos(iv.End - iv.Start)
		out.Code[i] = uint32(pbState(iv.State)) | uint32(pbThread(iv.Thread))<<4
		if iv.Merged {
			out.Code[i] |= mergedInterval
		}
		last = iv.End
	}
	return out
}

// pbBatch puts transitions of one P into columns.
func pbBatch(p int32, ts []transition) *pb.TransitionBatch {
	out := &pb.TransitionBatch{
		P: p, BaseUnixNano: ts[0].to.Start, Code: make([]uint32, len(ts)), GapNanos: make([]uint64, len(ts)),
		DurationNanos: make([]uint64, len(ts)),
	}
	last := out.BaseUnixNano
	for i, t := range ts {
		out.Code[i] = uint32(t.from) | uint32(pbState(t.to.State))<<4 | uint32(pbThread(t.to.Thread))<<8
		if t.to.Merged {
			out.Code[i] |= mergedTransition
		}
		out.GapNanos[i] = nanos(t.to.Start - last)
		out.DurationNanos[i] = nanos(t.to.End - t.to.Start)
		last = t.to.End
	}
	return out
}

func pbNow(p *pstate.PView) *pb.PNow {
	out := &pb.PNow{
		P: p.P, State: pbState(p.State), ThreadState: pbThread(p.Thread), SinceUnixNano: p.Since,
		RunqDepth:  p.RunqDepth,
		StateNanos: make([]uint64, pstate.NumStates+1), ThreadNanos: make([]uint64, pstate.NumThreadStates+1),
		UninterruptibleNanos: nanos(p.Uninterruptible), RunqLooks: p.RunqLooks(), RunqSum: p.RunqSum,
	}
	for s := range pstate.State(pstate.NumStates) {
		out.StateNanos[pbState(s)] = nanos(p.StateTime(s))
	}
	for s := range pstate.ThreadState(pstate.NumThreadStates) {
		out.ThreadNanos[pbThread(s)] = nanos(p.ThreadTime(s))
	}
	return out
}

func pbLack(l *lack.Lack) *pb.Lack {
	return &pb.Lack{What: l.What, Why: l.Why, Fix: l.Fix, Kind: l.Kind()}
}

func pbLoss(lost map[string]uint64) (out []*pb.Loss) {
	for _, reason := range slices.Sorted(maps.Keys(lost)) {
		if lost[reason] > 0 {
			out = append(out, &pb.Loss{Reason: reason, Count: lost[reason]})
		}
	}
	return out
}
