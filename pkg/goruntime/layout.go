package goruntime

import (
	"reflect"
	"strings"
)

// Absent is the offset of a field that this Go version does not have.
const Absent int32 = -1

// Layout holds the byte offset of every runtime field P-Scope reads. A field that the Go version lacks is [Absent].
//
// The tag of a field is its path inside the runtime's struct, as the runtime's source has it; alternatives for other versions follow after a
// bar. Without a tagged field marked required, no snapshot is possible. Filled from DWARF and by tools/gen-layouts alike. A layout that was searched
// for has those fields only that are read, sizes that end with the last of them, and a schedt that begins with the first.
type Layout struct {
	G     GLayout     `type:"runtime.g"`
	M     MLayout     `type:"runtime.m"`
	P     PLayout     `type:"runtime.p"`
	Sched SchedLayout `type:"runtime.schedt"`
}

// GLayout locates fields of type g, a goroutine (runtime/runtime2.go).
type GLayout struct {
	Size         int32
	StackLo      int32 `field:"stack.lo"`
	StackHi      int32 `field:"stack.hi"`
	M            int32 `field:"m,required"`
	SchedSP      int32 `field:"sched.sp"`
	SchedPC      int32 `field:"sched.pc"`
	SyscallSP    int32 `field:"syscallsp"`
	SyscallPC    int32 `field:"syscallpc"`
	AtomicStatus int32 `field:"atomicstatus,required"`
	GoID         int32 `field:"goid,required"`
	SchedLink    int32 `field:"schedlink"`
	WaitSince    int32 `field:"waitsince"`
	WaitReason   int32 `field:"waitreason"`
	LockedM      int32 `field:"lockedm"`
	RunnableTime int32 `field:"runnableTime"`
	ParentGoID   int32 `field:"parentGoid"`
	GoPC         int32 `field:"gopc,required"`
	StartPC      int32 `field:"startpc"`
	Labels       int32 `field:"labels"`
}

// MLayout locates fields of type m, a thread (runtime/runtime2.go).
type MLayout struct {
	Size        int32
	G0          int32 `field:"g0"`
	ProcID      int32 `field:"procid,required"`
	GSignal     int32 `field:"gsignal"`
	TLS         int32 `field:"tls"`
	CurG        int32 `field:"curg,required"`
	P           int32 `field:"p,required"`
	NextP       int32 `field:"nextp,required"`
	OldP        int32 `field:"oldp,required"`
	ID          int32 `field:"id,required"`
	PreemptOff  int32 `field:"preemptoff"`
	Locks       int32 `field:"locks"`
	Spinning    int32 `field:"spinning,required"`
	Blocked     int32 `field:"blocked,required"`
	InCgo       int32 `field:"incgo"`
	IsExtra     int32 `field:"isextra"`
	NCgo        int32 `field:"ncgo"`
	AllLink     int32 `field:"alllink,required"`
	SchedLink   int32 `field:"schedlink"`
	LockedG     int32 `field:"lockedg"`
	SyscallTick int32 `field:"syscalltick,required"`
}

// PLayout locates fields of type p, a processor (runtime/runtime2.go).
type PLayout struct {
	Size              int32
	ID                int32 `field:"id,required"`
	Status            int32 `field:"status,required"`
	Link              int32 `field:"link,required"` // next P on sched.pidle
	SchedTick         int32 `field:"schedtick,required"`
	SyscallTick       int32 `field:"syscalltick,required"`
	SysmonTick        int32 `field:"sysmontick"`
	M                 int32 `field:"m,required"`
	OldM              int32 `field:"oldm"` // a weak pointer; since Go 1.26
	RunqHead          int32 `field:"runqhead,required"`
	RunqTail          int32 `field:"runqtail,required"`
	Runq              int32 `field:"runq"`
	RunNext           int32 `field:"runnext,required"`
	GCMarkWorkerMode  int32 `field:"gcMarkWorkerMode,required"`
	StatsSeq          int32 `field:"statsSeq"`
	Preempt           int32 `field:"preempt"`
	GCStopTime        int32 `field:"gcStopTime"`        // since Go 1.23
	GoroutinesCreated int32 `field:"goroutinesCreated"` // since Go 1.26
}

// SchedLayout locates fields of type schedt, the scheduler's one global (runtime/runtime2.go).
type SchedLayout struct {
	Size                 int32
	LastPoll             int32 `field:"lastpoll"`
	MIdle                int32 `field:"midle"`
	NMIdle               int32 `field:"nmidle"`
	MNext                int32 `field:"mnext"`
	NMSys                int32 `field:"nmsys"`
	NMFreed              int32 `field:"nmfreed"`
	NGSys                int32 `field:"ngsys"`
	NGSyscallNoP         int32 `field:"nGsyscallNoP"` // since Go 1.26
	PIdle                int32 `field:"pidle,required"`
	NPIdle               int32 `field:"npidle,required"`
	NMSpinning           int32 `field:"nmspinning,required"`
	RunqHead             int32 `field:"runq.head"`
	RunqTail             int32 `field:"runq.tail"`
	RunqSize             int32 `field:"runqsize|runq.size,required"` // moved into gQueue by Go 1.25
	GCWaiting            int32 `field:"gcwaiting,required"`
	StopWait             int32 `field:"stopwait,required"`
	SysmonWait           int32 `field:"sysmonwait"`
	ProcResizeTime       int32 `field:"procresizetime"`
	TotalTime            int32 `field:"totaltime"`
	TimeToRun            int32 `field:"timeToRun"`
	IdleTime             int32 `field:"idleTime"`
	STWStoppingTimeGC    int32 `field:"stwStoppingTimeGC"`    // since Go 1.22
	STWStoppingTimeOther int32 `field:"stwStoppingTimeOther"` // since Go 1.22
	STWTotalTimeGC       int32 `field:"stwTotalTimeGC"`       // since Go 1.22
	STWTotalTimeOther    int32 `field:"stwTotalTimeOther"`    // since Go 1.22
}

// visit calls fn for every offset of the layout; alternatives is nil for the size of a type.
func (l *Layout) visit(fn func(typeName string, alternatives []string, required bool, dst *int32)) {
	v := reflect.ValueOf(l).Elem()
	for i := range v.NumField() {
		typeName := v.Type().Field(i).Tag.Get("type")
		s := v.Field(i)
		for j := range s.NumField() {
			dst := s.Field(j).Addr().Interface().(*int32)
			tag := s.Type().Field(j).Tag.Get("field")
			if tag == "" {
				fn(typeName, nil, true, dst)
				continue
			}
			path, opt, _ := strings.Cut(tag, ",")
			fn(typeName, strings.Split(path, "|"), opt == "required", dst)
		}
	}
}

// check reports the first field that a snapshot cannot do without and that is missing or lies outside its type.
func (l *Layout) check() (missing string) {
	sizes := map[string]int32{
		"runtime.g": l.G.Size, "runtime.m": l.M.Size, "runtime.p": l.P.Size, "runtime.schedt": l.Sched.Size,
	}
	l.visit(func(typeName string, alternatives []string, required bool, dst *int32) {
		if missing != "" {
			return
		}
		size := sizes[typeName]
		switch {
		case size <= 0 || size > maxTypeSize:
			missing = typeName
		case alternatives == nil:
		case *dst == Absent && !required:
		case *dst < 0 || *dst > size-1:
			missing = typeName + "." + alternatives[0]
		}
	})
	if missing == "" && max(l.pWindow(), l.mWindow(), l.gWindow(), l.schedWindow()) > maxWindow {
		return "the runtime's types in their usual size"
	}
	return missing
}

// The windows are what Snapshot reads of each type in one piece, from its beginning. They are checked to be small, whatever DWARF claims.

func (l *Layout) pWindow() int {
	p := &l.P
	return int(max(p.ID+4, p.Status+4, p.Link+8, p.SchedTick+4, p.SyscallTick+4, p.M+8, p.RunqHead+4, p.RunqTail+4))
}

func (l *Layout) mWindow() int {
	m := &l.M
	return int(max(m.ProcID, m.CurG, m.P, m.NextP, m.OldP, m.ID, m.Spinning, m.Blocked, m.AllLink) + 8)
}

func (l *Layout) gWindow() int {
	return int(max(l.G.AtomicStatus+4, l.G.GoID+8, l.G.GoPC+8))
}

func (l *Layout) schedWindow() int {
	s := &l.Sched
	return int(max(s.NMIdle, s.PIdle, s.NPIdle, s.NMSpinning, s.RunqSize, s.GCWaiting, s.StopWait) + 8)
}

// maxWindow bounds a window; the largest, of p, is 408 bytes.
const maxWindow = 4096

// maxTypeSize bounds the size of a runtime type: the largest, p, is 16 kB in Go 1.27. It keeps a hostile DWARF from making Snapshot read far.
const maxTypeSize = 256 << 10
