package frames

import (
	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// The protocol keeps 0 for "not given", as its style demands, so its numbers are not pstate's.
var (
	stateOf = map[pscopev1.PState]pstate.State{
		pscopev1.PState_P_STATE_IDLE: pstate.Idle, pscopev1.PState_P_STATE_RUNNING: pstate.Running, pscopev1.PState_P_STATE_SYSCALL: pstate.Syscall,
		pscopev1.PState_P_STATE_GCSTOP: pstate.GCStop, pscopev1.PState_P_STATE_DEAD: pstate.Dead, pscopev1.PState_P_STATE_GC: pstate.GC,
	}
	threadStateOf = map[pscopev1.ThreadState]pstate.ThreadState{
		pscopev1.ThreadState_THREAD_STATE_NONE: pstate.NoThread, pscopev1.ThreadState_THREAD_STATE_RUNNING: pstate.OnCPU,
		pscopev1.ThreadState_THREAD_STATE_RUNNABLE: pstate.Runnable, pscopev1.ThreadState_THREAD_STATE_SLEEPING: pstate.Sleeping,
		pscopev1.ThreadState_THREAD_STATE_UNINTERRUPTIBLE: pstate.Uninterruptible, pscopev1.ThreadState_THREAD_STATE_STOPPED: pstate.Stopped,
		pscopev1.ThreadState_THREAD_STATE_FROZEN: pstate.Frozen,
	}
)

// ThreadState of the protocol in P-Scope's words. What is not given counts as no thread.
func ThreadState(s pscopev1.ThreadState) pstate.ThreadState { return threadStateOf[s] }

// WireState is the inverse of State.
func WireState(s pstate.State) pscopev1.PState {
	for w, v := range stateOf {
		if v == s {
			return w
		}
	}
	return pscopev1.PState_P_STATE_UNSPECIFIED
}

// WireThreadState is the inverse of ThreadState.
func WireThreadState(s pstate.ThreadState) pscopev1.ThreadState {
	for w, v := range threadStateOf {
		if v == s {
			return w
		}
	}
	return pscopev1.ThreadState_THREAD_STATE_UNSPECIFIED
}

// Intervals unpacks the columns of one P. Columns of unequal length are read as far as all reach. An agent of a later
// version may know states that this plugin does not: intervals of such P states are left out, which shows as a gap, and
// such thread states count as no thread.
func Intervals(p *pscopev1.PIntervals) []pstate.Interval {
	n := min(len(p.GetCode()), len(p.GetGapNanos()), len(p.GetDurationNanos()))
	out := make([]pstate.Interval, 0, n)
	at := p.GetBaseUnixNano()
	for i := range n {
		code := p.GetCode()[i]
		start := at + int64(p.GetGapNanos()[i])
		at = start + int64(p.GetDurationNanos()[i])
		state, known := stateOf[pscopev1.PState(code&0xf)]
		if !known {
			continue
		}
		out = append(out, pstate.Interval{
			P: p.GetP(), State: state, Thread: ThreadState(pscopev1.ThreadState(code >> 4 & 0xf)),
			Merged: code>>8&1 == 1, Start: start, End: at,
		})
	}
	return out
}
