package kernel

import (
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// defaultKernelOptions are an agent's on a machine with few CPUs.
func defaultKernelOptions() *Options {
	return &Options{MaxPs: 4096, MaxThreads: 4 * 4096, RingBytes: 1 << 20}
}

func lockThread(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
}

// A program on the tracepoint of bpf_trace_printk that itself prints: the kernel does not run it again from within, and
// counts that.
func TestTheKernelsCountOfProgramsNotRunIsRead(t *testing.T) {
	print := asm.Instructions{
		asm.Mov.Imm(asm.R1, 'x'),
		asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, -8),
		asm.Mov.Imm(asm.R2, 2),
		asm.FnTracePrintk.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}
	load := func() *ebpf.Program {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, Instructions: print, License: "GPL"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	again, trigger := load(), load()
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "bpf_trace_printk", Program: again})
	if err != nil {
		t.Skip("this kernel has no tracepoint bpf_trace_printk: ", err)
	}
	defer l.Close()
	const runs = 7
	for range runs {
		if _, err := trigger.Run(&ebpf.RunOptions{Context: make([]byte, 8)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := recursionMisses([]*ebpf.Program{trigger}); n != 0 {
		t.Errorf("%d misses of the program that ran each time", n)
	}
	// Others may print meanwhile.
	if n := recursionMisses([]*ebpf.Program{again, trigger}); n < runs {
		t.Errorf("%d misses, %d times it would have run within itself", n, runs)
	}
}

func TestEveryProgramIsAskedForItsMisses(t *testing.T) {
	k, err := load(defaultKernelOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	programs := k.programs()
	for _, p := range []*ebpf.Program{k.Objects.SchedSwitch, k.Objects.SchedWaking, k.Objects.Sample,
		k.Objects.StopWorld, k.Objects.Exec} {
		found := false
		for _, q := range programs {
			found = found || p == q
		}
		if !found {
			t.Errorf("%v is not asked", p)
		}
	}
	for _, p := range programs {
		if _, err := p.Stats(); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
}
