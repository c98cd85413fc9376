package kern

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The verifier of Linux up to 6.12 allows a program and all functions it is in at once 512 bytes of stack
// (MAX_BPF_STACK), each rounded up to 32 (kernel/bpf/verifier.c, check_max_stack_depth). Later kernels give tracing
// programs a stack of their own and allow more.
const (
	maxStack   = 512
	stackRound = 32
	loopExtra  = 24 // what the verifier adds for bpf_loop after the check (optimize_bpf_loop)
)

// bpfFunction is one function of a program as the verifier sees it.
type bpfFunction struct {
	depth int      // bytes of stack
	calls []string // functions called or handed to bpf_loop
}

// bpfFunctions splits a program into its functions.
func bpfFunctions(insns asm.Instructions) (entry string, fns map[string]*bpfFunction) {
	fns = map[string]*bpfFunction{}
	var fn *bpfFunction
	var frame map[asm.Register]int // registers that hold the frame pointer plus a constant
	for _, ins := range insns {
		if f := ins.Symbol(); f != "" && !strings.HasPrefix(f, "L") {
			if fn == nil {
				entry = f
			}
			fn = &bpfFunction{}
			fns[f] = fn
			frame = map[asm.Register]int{asm.RFP: 0}
		}
		reach := func(r asm.Register, off int) {
			if base, ok := frame[r]; ok {
				fn.depth = max(fn.depth, -(base + off))
			}
		}
		switch class := ins.OpCode.Class(); {
		case class.IsLoad() && ins.OpCode.Mode() == asm.MemMode:
			reach(ins.Src, int(ins.Offset))
			delete(frame, ins.Dst)
		case class.IsStore():
			reach(ins.Dst, int(ins.Offset))
		case class == asm.ALU64Class && ins.OpCode.ALUOp() == asm.Mov && ins.OpCode.Source() == asm.RegSource:
			if base, ok := frame[ins.Src]; ok {
				frame[ins.Dst] = base
			} else {
				delete(frame, ins.Dst)
			}
		case class == asm.ALU64Class && ins.OpCode.ALUOp() == asm.Add && ins.OpCode.Source() == asm.ImmSource:
			if base, ok := frame[ins.Dst]; ok {
				frame[ins.Dst] = base + int(ins.Constant)
				reach(ins.Dst, 0)
			}
		case class == asm.ALU64Class || class == asm.ALUClass:
			delete(frame, ins.Dst)
		}
		if ins.IsFunctionReference() {
			fn.calls = append(fn.calls, ins.Reference())
		}
	}
	return entry, fns
}

// deepest is the chain of calls that takes the most stack.
func deepest(fns map[string]*bpfFunction, name string) (int, string) {
	fn := fns[name]
	own := (max(fn.depth, 1) + stackRound - 1) / stackRound * stackRound
	below, path := 0, ""
	for _, c := range fn.calls {
		if d, p := deepest(fns, c); d > below {
			below, path = d, " > "+p
		}
	}
	return own + below, fmt.Sprintf("%s (%d)%s", name, own, path)
}

// A program that passes this has a stack that every supported kernel accepts, whichever kernel the test runs on.
func TestProgramsFitTheStackOfOldKernels(t *testing.T) {
	spec, err := LoadScope()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		entry, fns := bpfFunctions(spec.Programs[name].Instructions)
		total, path := deepest(fns, entry)
		t.Logf("%s: %d bytes: %s", name, total, path)
		if total > maxStack {
			t.Errorf("%s needs %d bytes of stack, %d are allowed: %s", name, total, maxStack, path)
		}
	}
}

// TestStackIsCountedAsTheKernelCounts compares the count above with the running kernel's own.
func TestStackIsCountedAsTheKernelCounts(t *testing.T) {
	spec, err := LoadScope()
	if err != nil {
		t.Fatal(err)
	}
	objs, err := ebpf.NewCollectionWithOptions(spec,
		ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	if err != nil {
		t.Skip("the programs can't be loaded here: ", err)
	}
	defer objs.Close()
	for name, p := range objs.Programs {
		_, fns := bpfFunctions(spec.Programs[name].Instructions)
		var counted []int
		for _, f := range fns {
			counted = append(counted, f.depth)
		}
		slices.Sort(counted)
		var told []int
		for line := range strings.Lines(p.VerifierLog) {
			if s, ok := strings.CutPrefix(line, "stack depth "); ok {
				for n := range strings.SplitSeq(strings.TrimSpace(s), "+") {
					var d int
					fmt.Sscan(n, &d)
					told = append(told, d)
				}
			}
		}
		slices.Sort(told)
		if len(told) != len(counted) {
			t.Fatalf("%s: %d functions are counted, the kernel counts %d: %v, %v", name, len(counted), len(told),
				counted, told)
		}
		for i, n := range told {
			// The kernel rounds up to 8, and needs room to call bpf_loop's function without the helper.
			if n < counted[i] || n > (counted[i]+7)/8*8+loopExtra {
				t.Errorf("%s: the functions take %v bytes, the kernel counts %v", name, counted, told)
			}
		}
	}
}
