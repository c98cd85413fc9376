// Package pstate holds the words of P-Scope: P states, thread states, targets, intervals and stops.
// Every other package speaks in these types; this one imports none of them.
package pstate

import "strconv"

// State is what a P is doing. A P is in exactly one State at a time, so the seconds of all states of a P sum to wall
// time.
//
// The first five values are the Go runtime's own p.status numbers (runtime/runtime2.go, _Pidle … _Pdead);
// GC is P-Scope's refinement of _Prunning.
type State uint8

// The P states.
const (
	Idle    State = 0 // on the idle list, or handed to an M that has not run yet
	Running State = 1 // an M runs Go code or the scheduler with this P
	Syscall State = 2 // its G is in a system or cgo call and the P has not been taken away
	GCStop  State = 3 // halted by a stop-the-world
	Dead    State = 4 // beyond GOMAXPROCS
	GC      State = 5 // running a GC mark worker
)

// NumStates is the number of P states; a State is always smaller.
const NumStates = 6

var stateNames = [NumStates]string{"idle", "running", "syscall", "gcstop", "dead", "gc"}

// String gives the word used for the state in metrics, frames and the user interface.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "state(" + strconv.Itoa(int(s)) + ")"
}

// ParseState is the inverse of String. ok is false for a word that names no state.
func ParseState(word string) (s State, ok bool) {
	for i, n := range stateNames {
		if n == word {
			return State(i), true
		}
	}
	return 0, false
}

// States lists all P states in the order in which legends show them.
func States() []State { return []State{Running, GC, Syscall, Idle, GCStop, Dead} }

// RuntimeStatus is the number under which the article's metric go_runtime_p_status reports the state
// (0=Idle 1=Running 2=Syscall 3=GCstop 4=Dead); a P that runs a GC mark worker is Running there.
func (s State) RuntimeStatus() State {
	if s == GC {
		return Running
	}
	return s
}

// ThreadState is the kernel state of the M that carries a P.
type ThreadState uint8

// The thread states.
const (
	NoThread        ThreadState = 0 // no M carries the P
	OnCPU           ThreadState = 1
	Runnable        ThreadState = 2 // waits for a CPU
	Sleeping        ThreadState = 3 // S: interruptible sleep
	Uninterruptible ThreadState = 4 // D
	Stopped         ThreadState = 5 // T or t: stopped by a signal or held by a tracer
	Frozen          ThreadState = 6 // held by the freezer of a control group
)

// NumThreadStates is the number of thread states; a ThreadState is always smaller.
const NumThreadStates = 7

var threadStateNames = [NumThreadStates]string{"none", "running", "runnable", "sleeping", "uninterruptible",
	"stopped", "frozen"}

// String gives the word used for the thread state in metrics, frames and the user interface.
func (s ThreadState) String() string {
	if int(s) < len(threadStateNames) {
		return threadStateNames[s]
	}
	return "thread_state(" + strconv.Itoa(int(s)) + ")"
}

// ParseThreadState is the inverse of String. ok is false for a word that names no thread state.
func ParseThreadState(word string) (s ThreadState, ok bool) {
	for i, n := range threadStateNames {
		if n == word {
			return ThreadState(i), true
		}
	}
	return 0, false
}

// ThreadStates lists all thread states in the order in which legends show them.
func ThreadStates() []ThreadState {
	return []ThreadState{OnCPU, Runnable, Sleeping, Uninterruptible, Stopped, Frozen, NoThread}
}

// Suspended says whether somebody outside of the program keeps the thread from running: a signal, a tracer or a
// freezer. A P that such a thread carries is not busy, whatever the runtime says of it.
func (s ThreadState) Suspended() bool { return s == Stopped || s == Frozen }

// Busy says whether a P in this state has work in hand.
func (s State) Busy() bool { return s == Running || s == GC || s == Syscall }

// Rare says whether an interval in this state must stay visible however short it is: the world stopped.
func (s State) Rare() bool { return s == GCStop }

// Rare says whether an interval in this thread state must stay visible however short it is: uninterruptible sleep.
func (s ThreadState) Rare() bool { return s == Uninterruptible }

// Number is the state's number in the protocol, whose enums keep 0 for "not given".
func (s State) Number() int32 { return int32(s) + 1 }

// Number is the thread state's number in the protocol, whose enums keep 0 for "not given".
func (s ThreadState) Number() int32 { return int32(s) + 1 }

// StateOf is the inverse of State.Number. ok is false for a number that stands for no state.
func StateOf(number int32) (s State, ok bool) {
	return State(number - 1), number > 0 && number <= NumStates
}

// ThreadStateOf is the inverse of ThreadState.Number. ok is false for a number that stands for no thread state.
func ThreadStateOf(number int32) (s ThreadState, ok bool) {
	return ThreadState(number - 1), number > 0 && number <= NumThreadStates
}
