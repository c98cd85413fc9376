package process

import (
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/layout"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Snapshot is what one reading of a process shows. It is reused from reading to reading: in the steady state
// [Process.Snapshot] allocates nothing.
type Snapshot struct {
	At         int64         // Unix nanoseconds when the reading began
	Took       time.Duration // how long it took; the Ps are read in this window, not in one instant
	GOMAXPROCS int32
	GCPhase    uint32 // _GCoff, _GCmark, _GCmarktermination (runtime/mgc.go); 0 if the variable is not known
	Sched      SchedSnapshot
	Ps         []PSnapshot // one for each element of allp, in order
	Ms         []MSnapshot // the threads that carry a P; all threads if asked for

	// Torn counts run queues that were being consumed while they were read; their depth is from the second reading of
	// the head.
	Torn int
	// Moved counts Ps whose thread did not point back at them: the P changed hands between two reads. Their State is
	// taken from status alone.
	Moved int
	// Errors counts what was left out: pointers that cannot be right, Ps and Ms that could not be read, a list of Ms
	// that loops.
	Errors int
}

// SchedSnapshot is the scheduler's global state (type schedt in runtime/runtime2.go).
type SchedSnapshot struct {
	NPIdle     int32
	NMSpinning int32
	NMIdle     int32  // -1: not known
	RunqSize   int32  // global run queue
	GCWaiting  bool   // a stop of the world is asked for or going on
	StopWait   int32  // Ps a stop still waits for
	PIdle      uint64 // address of the first P on the idle list, 0 if none
}

// PSnapshot is one P (type p in runtime/runtime2.go).
type PSnapshot struct {
	Addr        uint64
	ID          int32
	Status      uint32 // _Pidle … _Pdead, as read
	State       pstate.State
	SchedTick   uint32
	SyscallTick uint32
	M           uint64 // address of the m that carries it, 0 if none
	// MIndex is the index into Snapshot.Ms of the M that carries the P or, in a system call up to Go 1.25, has left it;
	// -1 if none is known.
	MIndex           int32
	RunqDepth        int32  // local queue plus runnext; -1: could not be read
	GCMarkWorkerMode uint32 // 0 unless a GC mark worker runs
	Link             uint64 // address of the next idle P
	OK               bool   // false: the P could not be read, and only Addr and ID mean anything
}

// MSnapshot is one M (type m in runtime/runtime2.go).
type MSnapshot struct {
	Addr     uint64
	TID      int32 // thread id in the agent's PID namespace; 0 if not known (yet)
	ProcID   int32 // thread id as the target sees it, m.procid
	ID       int64
	CurG     uint64
	GoID     uint64 // of CurG
	GCWorker bool   // CurG is a mark worker of the GC
	GStatus  uint32 // of CurG without the scan bit: _Grunning 2, _Gsyscall 3, _Gwaiting 4 …; 0 if there is none
	P        uint64
	NextP    uint64 // P handed to it that it has not taken up yet
	OldP     uint64 // P it had when it entered its last system call
	Spinning bool
	Blocked  bool
}

// InSyscall says whether the M's goroutine is in a system call.
func (m *MSnapshot) InSyscall() bool { return m.GStatus == gSyscall }

// Values of g.atomicstatus (runtime/runtime2.go).
const (
	gSyscall = 3
	gScan    = 0x1000
)

// maxPs bounds len(allp). The runtime has no limit of its own any more (_MaxGomaxprocs was 1<<10 once). The largest
// machines have fewer than 4096 CPUs.
const maxPs = 4096

// maxMs bounds the list of threads; the runtime's default limit is 10000 (debug.SetMaxThreads).
const maxMs = 1 << 14

// stateOf translates p.status. Since Go 1.26 there is no status for a P in a system call: it stays running, and the
// current G of its M says so (runtime/proc.go, reentersyscall). gStatus is the status of that G, 0 if not known. worker
// says that it is a mark worker. It still is one when it has drained its work, resets the P's mode and ends the mark
// phase (runtime/mgc.go, gcBgMarkWorker calls gcMarkDone). runtime/trace counts it the same.
func stateOf(status, gcMarkWorkerMode, gStatus uint32, worker bool) pstate.State {
	switch status {
	case layout.StatusRunning:
		switch {
		case gStatus == gSyscall:
			return pstate.Syscall
		case worker || gcMarkWorkerMode != 0:
			return pstate.GC
		}
		return pstate.Running
	case layout.StatusSyscall:
		return pstate.Syscall
	case layout.StatusGCStop:
		return pstate.GCStop
	case layout.StatusIdle:
		return pstate.Idle
	}
	return pstate.Dead
}
