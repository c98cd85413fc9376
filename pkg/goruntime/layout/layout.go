package layout

import (
	"reflect"
	"strings"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
)

// Absent is the offset of a field that this Go version does not have.
const Absent int32 = -1

// Layout holds the byte offset of every runtime field that P-Scope needs. A field that the Go version lacks is
// [Absent].
//
// The tag of a field is its path in the runtime's struct. Paths of other Go versions follow after a bar. No snapshot is
// possible without the fields marked required; the others are for stacks, goroutines and figures of the runtime. A
// layout that was found by search has required fields only. Its sizes end with the last of them, and its schedt begins
// with the first one.
type Layout struct {
	G     G     `type:"runtime.g"`
	M     M     `type:"runtime.m"`
	P     P     `type:"runtime.p"`
	Sched Sched `type:"runtime.schedt"`
}

// G locates fields of type g, a goroutine (runtime/runtime2.go).
type G struct {
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
	WaitSince    int32 `field:"waitsince"`
	WaitReason   int32 `field:"waitreason"`
	GoPC         int32 `field:"gopc,required"`
}

// M locates fields of type m, a thread (runtime/runtime2.go).
type M struct {
	Size        int32
	ProcID      int32 `field:"procid,required"`
	CurG        int32 `field:"curg,required"`
	P           int32 `field:"p,required"`
	NextP       int32 `field:"nextp,required"`
	OldP        int32 `field:"oldp,required"`
	ID          int32 `field:"id,required"`
	Spinning    int32 `field:"spinning,required"`
	Blocked     int32 `field:"blocked,required"`
	AllLink     int32 `field:"alllink,required"`
	SyscallTick int32 `field:"syscalltick,required"`
}

// P locates fields of type p, a processor (runtime/runtime2.go).
type P struct {
	Size             int32
	ID               int32 `field:"id,required"`
	Status           int32 `field:"status,required"`
	Link             int32 `field:"link,required"` // next P on sched.pidle
	SchedTick        int32 `field:"schedtick,required"`
	SyscallTick      int32 `field:"syscalltick,required"`
	M                int32 `field:"m,required"`
	RunqHead         int32 `field:"runqhead,required"`
	RunqTail         int32 `field:"runqtail,required"`
	RunNext          int32 `field:"runnext,required"`
	GCMarkWorkerMode int32 `field:"gcMarkWorkerMode,required"`
}

// Sched locates fields of type schedt, the scheduler's one global (runtime/runtime2.go).
type Sched struct {
	Size       int32
	LastPoll   int32 `field:"lastpoll"`
	NMIdle     int32 `field:"nmidle"`
	PIdle      int32 `field:"pidle,required"`
	NPIdle     int32 `field:"npidle,required"`
	NMSpinning int32 `field:"nmspinning,required"`
	RunqSize   int32 `field:"runqsize|runq.size,required"` // moved into gQueue by Go 1.25
	GCWaiting  int32 `field:"gcwaiting,required"`
	StopWait   int32 `field:"stopwait,required"`
	TimeToRun  int32 `field:"timeToRun"`
}

// Visit calls fn for every offset of the layout; alternatives is nil for the size of a type.
func (l *Layout) Visit(fn func(typeName string, alternatives []string, required bool, dst *int32)) {
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

// Missing names the first field that a snapshot needs and that is absent or lies outside its type; empty if all is
// well.
func (l *Layout) Missing() (missing string) {
	sizes := map[string]int32{
		"runtime.g": l.G.Size, "runtime.m": l.M.Size, "runtime.p": l.P.Size, "runtime.schedt": l.Sched.Size,
	}
	l.Visit(func(typeName string, alternatives []string, required bool, dst *int32) {
		if missing != "" {
			return
		}
		size := sizes[typeName]
		switch {
		case size <= 0 || size > binary.MaxTypeSize:
			missing = typeName
		case alternatives == nil:
		case *dst == Absent && !required:
		case *dst < 0 || *dst > size-1:
			missing = typeName + "." + alternatives[0]
		}
	})
	if missing == "" && max(l.PRead(), l.MRead(), l.GRead(), l.SchedRead()) > maxRead {
		return "the runtime's types in their usual size"
	}
	return missing
}

// PRead is how many bytes a snapshot reads of a p, from its beginning.
func (l *Layout) PRead() int {
	p := &l.P
	return int(max(p.ID+4, p.Status+4, p.Link+8, p.SchedTick+4, p.SyscallTick+4, p.M+8, p.RunqHead+4, p.RunqTail+4))
}

// MRead is how many bytes a snapshot reads of an m.
func (l *Layout) MRead() int {
	m := &l.M
	return int(max(m.ProcID, m.CurG, m.P, m.NextP, m.OldP, m.ID, m.Spinning, m.Blocked, m.AllLink) + 8)
}

// GRead is how many bytes a snapshot reads of a g.
func (l *Layout) GRead() int {
	return int(max(l.G.AtomicStatus+4, l.G.GoID+8, l.G.GoPC+8))
}

// SchedRead is how many bytes a snapshot reads of runtime.sched.
func (l *Layout) SchedRead() int {
	s := &l.Sched
	return int(max(s.NMIdle, s.PIdle, s.NPIdle, s.NMSpinning, s.RunqSize, s.GCWaiting, s.StopWait) + 8)
}

// maxRead bounds what is read of a type in one piece, whatever the DWARF claims. The largest, of p, is 408 bytes.
const maxRead = 4096

// Values of p.status (runtime/runtime2.go).
const (
	StatusIdle    = 0
	StatusRunning = 1
	StatusSyscall = 2
	StatusGCStop  = 3
	StatusDead    = 4
)
