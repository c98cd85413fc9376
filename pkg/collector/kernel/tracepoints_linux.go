package kernel

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// fitTracepoints tells the programs where this kernel's sched_switch has its arguments, by the kernel's own BTF and not
// by its version: distributions carry the change to older kernels.
func fitTracepoints(spec *ebpf.CollectionSpec, kernel *btf.Spec) error {
	var t *btf.Typedef
	if err := kernel.TypeByName("btf_trace_sched_switch", &t); err != nil {
		return nil // this BTF does not describe tracepoints: what most kernels have is assumed
	}
	order, err := switchOrder(t)
	if err != nil {
		return err
	}
	if err := spec.Variables["switch_args_order"].Set(uint32(order)); err != nil {
		return fmt.Errorf("set the order of sched_switch's arguments: %w", err)
	}
	return nil
}

// switchOrder takes the order from the type of the tracepoint's functions: (void *, bool preempt, ...).
func switchOrder(t *btf.Typedef) (kern.ScopeSwitchOrder, error) {
	const before = 2 // the tracepoint's data and preempt
	var kinds string
	if p, ok := btf.UnderlyingType(t).(*btf.Pointer); ok {
		if f, ok := p.Target.(*btf.FuncProto); ok && len(f.Params) > before {
			for _, param := range f.Params[before:] {
				kinds += kindOf(param.Type)
			}
		}
	}
	switch kinds {
	case "TTi":
		return kern.ScopeSwitchOrderSTATE_LAST, nil
	case "iTT":
		return kern.ScopeSwitchOrderSTATE_FIRST, nil
	case "TT":
		return kern.ScopeSwitchOrderSTATE_ABSENT, nil
	}
	return 0, fmt.Errorf("the tracepoint sched_switch of this kernel has arguments that P-Scope does not know (%q)",
		kinds)
}

// kindOf is T for a pointer to a task, i for an integer and ? for anything else.
func kindOf(t btf.Type) string {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Int:
		return "i"
	case *btf.Pointer:
		if s, ok := btf.UnderlyingType(t.Target).(*btf.Struct); ok && s.Name == "task_struct" {
			return "T"
		}
	}
	return "?"
}
