//go:build linux

// Command probecost measures what a uprobe costs the probed program, at an instruction that the kernel emulates and at
// one that it executes out of line in single steps. It probes itself, counts the hits in the kernel, and checks that
// each call was hit once and gave the right result.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/p-scope/p-scope/pkg/goruntime/probes"
)

// measured is one place of a probe.
type measured struct {
	Instruction string `json:"instruction"` // emulated or stepped
	Offset      int    `json:"offset"`      // from the function's begin
	Link        string `json:"link"`        // multi or perf
	BareNs      int64  `json:"bare_ns"`     // a call without a probe, median of batches
	ProbedNs    int64  `json:"probed_ns"`   // with it
	Calls       uint64 `json:"calls"`
	Hits        uint64 `json:"hits"`
}

const (
	batches = 25
	calls   = 200 // a batch
)

func main() {
	if err := measureAll(); err != nil {
		fmt.Fprintln(os.Stderr, "probecost:", err)
		os.Exit(1)
	}
}

func measureAll() error {
	entry := reflect.ValueOf(probed).Pointer()
	code := unsafe.Slice((*byte)(unsafe.Pointer(reflect.ValueOf(probed).Pointer())), 64)
	emulated, ok := probes.EmulatedEntry(code, uint64(entry))
	if !ok {
		return errors.New("the probed function has no instruction that the kernel emulates")
	}
	stepped, err := steppedEntry(code, emulated)
	if err != nil {
		return err
	}
	for _, site := range []struct {
		name string
		at   int
	}{{"emulated", emulated}, {"stepped", stepped}} {
		m, err := measure(entry, site.at)
		if err != nil {
			return fmt.Errorf("%s: %w", site.name, err)
		}
		m.Instruction = site.name
		text, err := json.Marshal(m)
		if err != nil {
			return err
		}
		fmt.Println(string(text))
		if m.Hits != m.Calls {
			return fmt.Errorf("%s: %d calls, %d hits", site.name, m.Calls, m.Hits)
		}
	}
	return nil
}

// steppedEntry finds an instruction that every call executes once and that no kernel emulates: on amd64 the MOVQ SP, BP
// behind the PUSH BP; on arm64 the store behind the stack check, where the agent's own probes of the runtime are.
func steppedEntry(code []byte, emulated int) (int, error) {
	if runtime.GOARCH == "amd64" {
		return emulated + 1, nil
	}
	for at := 0; at+8 <= len(code); at += 4 {
		// B.LS (Arm Architecture Reference Manual, C6.2: B.cond).
		if w := *(*uint32)(unsafe.Pointer(&code[at])); w&0xff00001f == 0x54000009 {
			return at + 4, nil
		}
	}
	return 0, errors.New("the probed function has no stack check")
}

// probed has a frame, so that it begins with a stack check, and nothing in it but a call, which kernels emulate on
// arm64.
//
//go:noinline
func probed(n int) int { return same(n) + one }

//go:noinline
func same(n int) int { return n }

// one is a variable, so that the call is not the last thing that probed does.
var one = 1

// counter is a program that counts its runs.
func counter() (*ebpf.Map, *ebpf.Program, string, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, nil, "", err
	}
	spec := ebpf.ProgramSpec{Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceUprobeMulti, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMapValue(asm.R1, m.FD(), 0),
			asm.Mov.Imm(asm.R2, 1),
			asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		}}
	if p, err := ebpf.NewProgram(&spec); err == nil {
		return m, p, "multi", nil
	}
	spec.AttachType = ebpf.AttachNone
	p, err := ebpf.NewProgram(&spec)
	return m, p, "perf", err
}

func measure(entry uintptr, at int) (out measured, err error) {
	counts, prog, kind, err := counter()
	if err != nil {
		return out, err
	}
	defer counts.Close()
	defer prog.Close()
	offset, err := fileOffset(entry + uintptr(at))
	if err != nil {
		return out, err
	}
	exe, err := link.OpenExecutable("/proc/self/exe")
	if err != nil {
		return out, err
	}
	out.Offset, out.Link = at, kind
	out.BareNs, _ = batch()
	var l link.Link
	if kind == "multi" {
		l, err = exe.UprobeMulti(nil, prog, &link.UprobeMultiOptions{Addresses: []uint64{offset}})
	}
	if kind == "perf" || err != nil {
		out.Link = "perf"
		l, err = exe.Uprobe("probed", prog, &link.UprobeOptions{Address: offset, PID: os.Getpid()})
	}
	if err != nil {
		return out, err
	}
	defer l.Close()
	var wrong error
	out.ProbedNs, wrong = batch()
	out.Calls = batches * calls
	return out, errors.Join(wrong, counts.Lookup(uint32(0), &out.Hits))
}

// batch is how long a call takes, the median of some batches.
func batch() (int64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	took := make([]int64, batches)
	for i := range took {
		begun := time.Now()
		for n := range calls {
			if got := probed(n); got != n+1 {
				return 0, fmt.Errorf("the probed function gave %d instead of %d", got, n+1)
			}
		}
		took[i] = time.Since(begun).Nanoseconds() / calls
	}
	slices.Sort(took)
	return took[batches/2], nil
}

// fileOffset is where in the program's file an address lies.
func fileOffset(addr uintptr) (uint64, error) {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var from, to, offset uint64
		var may string
		if n, _ := fmt.Sscanf(line, "%x-%x %s %x", &from, &to, &may, &offset); n == 4 && from <= uint64(addr) &&
			uint64(addr) < to {
			return uint64(addr) - from + offset, nil
		}
	}
	return 0, errors.New("the code is not in the program's own memory map")
}
