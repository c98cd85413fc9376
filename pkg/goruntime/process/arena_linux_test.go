package process

import (
	stdbinary "encoding/binary"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// arena is memory of this process that plays the target's. It stays at one address, so that pointers into it can be
// written down.
var arena [256 << 10]byte

// arenaProcess pretends that the runtime's variables lie at the beginning of the arena.
func arenaProcess() *Process {
	base := uint64(uintptr(unsafe.Pointer(&arena)))
	l, _ := layout.FromTable(binary.Version{Minor: 26, Release: true}, "amd64")
	b := &goruntime.Binary{
		GoVersion: "go1.26.8",
		Layout:    *l,
		Vars: layout.Vars{AllP: base, AllM: base + 24, GOMAXPROCS: base + 32, GCPhase: base + 36, Sched: base +
			64},
	}
	p := &Process{pid: os.Getpid(), bin: b, pidfd: -1}
	p.startTime, _ = startTime(p.pid)
	p.exe, _ = p.exeID()
	entry, random, _ := p.auxv()
	b.Entry, p.canary = entry, random
	p.tids.same = true
	return p
}

// put writes a word into the arena; ref is the address of a place in it.
func put(off int, v uint64)   { stdbinary.NativeEndian.PutUint64(arena[off:], v) }
func ref(off int) uint64      { return uint64(uintptr(unsafe.Pointer(&arena))) + uint64(off) }
func put32(off int, v uint32) { stdbinary.NativeEndian.PutUint32(arena[off:], v) }

// healthyArena writes a small runtime: two Ps, three Ms, two Gs.
func healthyArena(l *layout.Layout) {
	clear(arena[:])
	const allp, ps, ms, gs = 8 << 10, 16 << 10, 64 << 10, 96 << 10
	put(0, ref(allp))
	put(8, 2)
	put(16, 2)
	put(24, ref(ms))
	put32(32, 2)
	for i := range 2 {
		p := ps + i*20<<10
		put(allp+8*i, ref(p))
		put32(p+int(l.P.ID), uint32(i))
		put32(p+int(l.P.Status), layout.StatusRunning)
		put(p+int(l.P.M), ref(ms+i*4096))
		put32(p+int(l.P.RunqHead), 10)
		put32(p+int(l.P.RunqTail), 15)
		put(p+int(l.P.RunNext), ref(gs))
	}
	for i := range 3 {
		m := ms + i*4096
		put(m+int(l.M.ProcID), uint64(os.Getpid()))
		put(m+int(l.M.CurG), ref(gs+i%2*1024))
		if i < 2 {
			put(m+int(l.M.P), ref(ps+i*20<<10))
			put(m+int(l.M.AllLink), ref(m+4096))
		}
	}
	for i := range 2 {
		put32(gs+i*1024+int(l.G.AtomicStatus), 2+uint32(i))
	}
}

func TestArena(t *testing.T) {
	p := arenaProcess()
	healthyArena(&p.bin.Layout)
	var s Snapshot
	if err := p.Snapshot(&s, true); err != nil {
		t.Fatal(err)
	}
	if len(s.Ps) != 2 || len(s.Ms) != 3 || s.Errors != 0 || s.Ps[0].RunqDepth != 6 ||
		s.Ps[0].State != pstate.Running || s.Ps[1].State != pstate.Syscall {
		t.Errorf("%+v", s)
	}
	// A list of Ms that loops is cut.
	put(64<<10+2*4096+int(p.bin.Layout.M.AllLink), ref(64<<10))
	if err := p.Snapshot(&s, true); err != nil || len(s.Ms) != 3 || s.Errors != 1 {
		t.Errorf("a loop: %v, %d Ms, %d errors", err, len(s.Ms), s.Errors)
	}
	// A P that is not mapped is left out.
	const moved = 12 << 10
	put(moved, 1<<40)
	put(moved+8, ref(36<<10))
	put(0, ref(moved))
	if err := p.Snapshot(&s, false); err != nil || len(s.Ps) != 2 || s.Ps[0].OK || !s.Ps[1].OK || s.Errors != 1 {
		t.Errorf("an unmapped P: %v, %+v", err, s)
	}
	// Lengths that cannot be.
	put(8, 1<<40)
	if err := p.Snapshot(&s, false); err == nil {
		t.Error("2^40 Ps accepted")
	}
}

// TestChangingMemory reads a runtime whose words change meanwhile, by anything: what is read must stay within its
// bounds.
func TestChangingMemory(t *testing.T) {
	p := arenaProcess()
	healthyArena(&p.bin.Layout)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		r := rand.New(rand.NewPCG(1, 2))
		places := []int{0, 8, 24, 32, 64, 8 << 10, 16 << 10, 36 << 10, 64 << 10, 68 << 10, 96 << 10}
		for {
			select {
			case <-stop:
				return
			default:
			}
			off := places[r.IntN(len(places))] + 8*r.IntN(64)
			v := r.Uint64() >> r.IntN(64)
			if r.IntN(2) == 0 {
				v = ref(r.IntN(len(arena)))
			}
			atomic.StoreUint64((*uint64)(unsafe.Pointer(&arena[off])), v)
		}
	}()
	var s Snapshot
	good := 0
	for i := range 20_000 {
		if err := p.Snapshot(&s, i%2 == 0); err != nil {
			continue
		}
		good++
		_ = p.plausible(&s)
		if len(s.Ps) > maxPs || len(s.Ms) > maxMs+maxPs {
			t.Fatalf("%d Ps, %d Ms", len(s.Ps), len(s.Ms))
		}
		for j := range s.Ps {
			if at := s.Ps[j].MIndex; int(at) >= len(s.Ms) || s.Ps[j].RunqDepth > 257 {
				t.Fatalf("%+v with %d Ms", s.Ps[j], len(s.Ms))
			}
		}
	}
	close(stop)
	<-stopped
	t.Logf("%d of 20000 snapshots were taken for whole", good)
}

// replaceWords puts something else where words of the arena are: anything, addresses of other parts of it, or small
// numbers. The input is a list of the place of a word (2 bytes), the kind (1 byte), and 8 bytes of value.
func replaceWords(input []byte) {
	for ; len(input) >= 11; input = input[11:] {
		off := int(stdbinary.LittleEndian.Uint16(input)) * 8 % (len(arena) - 8)
		v := stdbinary.LittleEndian.Uint64(input[3:])
		switch input[2] % 3 {
		case 1:
			v = ref(int(v % uint64(len(arena))))
		case 2:
			v %= 5000
		}
		put(off, v)
	}
}

// FuzzSnapshot reads a runtime in which words have been replaced.
func FuzzSnapshot(f *testing.F) {
	f.Add([]byte{0, 1, 0, 255, 255, 255, 255, 255, 255, 255, 255}, true) // len(allp)
	f.Add([]byte{0, 3, 1, 0, 0, 1, 0, 0, 0, 0, 0}, true)                 // allm
	p := arenaProcess()
	var s Snapshot
	f.Fuzz(func(t *testing.T, input []byte, withMs bool) {
		healthyArena(&p.bin.Layout)
		replaceWords(input)
		begin := time.Now()
		err := p.Snapshot(&s, withMs)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if err != nil {
			return
		}
		_ = p.plausible(&s)
		if len(s.Ps) > maxPs || len(s.Ms) > maxMs+maxPs {
			t.Errorf("%d Ps, %d Ms", len(s.Ps), len(s.Ms))
		}
		for i := range s.Ps {
			if at := s.Ps[i].MIndex; int(at) >= len(s.Ms) || s.Ps[i].RunqDepth > 257 {
				t.Errorf("%+v with %d Ms", s.Ps[i], len(s.Ms))
			}
		}
	})
}

// FuzzProof proves a layout on memory in which words have been replaced: whatever it says, it must say it soon.
func FuzzProof(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0, 255, 255, 255, 255, 255, 255, 255, 255}) // len(allp)
	f.Add([]byte{8, 0, 1, 0, 64, 0, 0, 0, 0, 0, 0, 0, 8, 1, 0, 64, 0, 0, 0, 0, 0, 0})
	p := arenaProcess()
	p.bin.LayoutSource = pstate.LayoutSearch
	f.Fuzz(func(t *testing.T, input []byte) {
		healthyArena(&p.bin.Layout)
		replaceWords(input)
		begin := time.Now()
		err := p.prove()
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		if err != nil && err.Error() == "" {
			t.Error("refused without a word")
		}
	})
}
