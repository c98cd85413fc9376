package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/p-scope/p-scope/pkg/goruntime/probes"
)

// A hit of a uprobe costs a program more than the time in the BPF program: the trap and the way back, at an instruction
// that the kernel emulates. On one processor that is half a microsecond, on another two, so the agent measures it on
// itself when it starts.

// usualTrap is what is assumed until it has been measured, or where it can't be.
const usualTrap = 600 * time.Nanosecond

const (
	trapBatches = 15
	trapCalls   = 100 // a batch
	// What a measurement must lie between to be believed.
	minTrap = 100 * time.Nanosecond
	maxTrap = 20 * time.Microsecond
)

// trapped is the function that is probed. It calls another one, so that near its begin there is an instruction that the
// kernel emulates: the push of the frame pointer on amd64, the call on arm64 (docs/decisions/arm64-probes.md).
//
//go:noinline
func trapped(n int) int { return calledByTrapped(n) + 1 }

//go:noinline
func calledByTrapped(n int) int { return int(trappedCalls.Add(1)) ^ n }

var trappedCalls atomic.Int32

// measureTrap puts a probe into the agent's own code for some milliseconds and gives what a hit costs. The program must
// do next to nothing for a process that is no target.
func (p *Probes) measureTrap(prog *ebpf.Program) (time.Duration, error) {
	s, err := siteInItself()
	if err != nil {
		return 0, err
	}
	defer s.file.Close()
	without := callTrapped()
	l, err := p.Attach(s, prog)
	if err != nil {
		return 0, err
	}
	with := callTrapped()
	if err := l.Close(); err != nil {
		return 0, err
	}
	d := with - without
	if d < minTrap || d > maxTrap {
		return 0, fmt.Errorf("a hit seems to cost %v", d)
	}
	return d, nil
}

// callTrapped is how long a call takes, the median of some batches: what interrupts one of them does not matter.
func callTrapped() time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	took := make([]time.Duration, trapBatches)
	for i := range took {
		begun := time.Now()
		for n := range trapCalls {
			trapped(n)
		}
		took[i] = time.Since(begun) / trapCalls
	}
	slices.Sort(took)
	return took[trapBatches/2]
}

// trappedOffset is where in the program's file the probe goes. The code is read from the file: in memory a probe may
// still be in it, of the agent or of another one.
func trappedOffset(file io.ReaderAt) (uint64, error) {
	entry := uint64(runtime.FuncForPC(reflect.ValueOf(trapped).Pointer()).Entry())
	offset, err := offsetInFile(entry)
	if err != nil {
		return 0, err
	}
	var code [64]byte
	if _, err := file.ReadAt(code[:], int64(offset)); err != nil {
		return 0, fmt.Errorf("read the program's own code: %w", err)
	}
	at, ok := probes.EmulatedEntry(code[:], entry)
	if !ok {
		return 0, errors.New("the function that was to be probed has no instruction that the kernel emulates")
	}
	return offset + uint64(at), nil
}

// offsetInFile is where in the program's file the code at an address comes from.
func offsetInFile(pc uint64) (uint64, error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to, offset uint64
		var may string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s %x", &from, &to, &may, &offset); n == 4 && from <= pc && pc < to {
			return pc - from + offset, nil
		}
	}
	return 0, errors.New("the program's code is not in its own memory map")
}
