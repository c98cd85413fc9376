package kernel

import (
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

func TestOrderOfSwitchArguments(t *testing.T) {
	task := &btf.Pointer{Target: &btf.Struct{Name: "task_struct"}}
	constTask := &btf.Pointer{Target: &btf.Const{Type: &btf.Struct{Name: "task_struct"}}}
	state := &btf.Int{Name: "unsigned int", Size: 4}
	long := &btf.Typedef{Name: "u64", Type: &btf.Int{Name: "long unsigned int", Size: 8}}
	other := &btf.Pointer{Target: &btf.Struct{Name: "rq"}}
	for _, tc := range []struct {
		name string
		args []btf.Type
		want kern.ScopeSwitchOrder
		bad  bool
	}{
		{"since 5.19", []btf.Type{task, task, state}, kern.ScopeSwitchOrderSTATE_LAST, false},
		{"5.18", []btf.Type{state, task, task}, kern.ScopeSwitchOrderSTATE_FIRST, false},
		{"before", []btf.Type{task, task}, kern.ScopeSwitchOrderSTATE_ABSENT, false},
		{"other types of the same", []btf.Type{constTask, task, long}, kern.ScopeSwitchOrderSTATE_LAST, false},
		{"unknown", []btf.Type{other, task, task, state}, 0, true},
		{"none", nil, 0, true},
	} {
		f := &btf.FuncProto{Params: []btf.FuncParam{{Type: &btf.Pointer{Target: &btf.Void{}}},
			{Type: &btf.Int{Name: "_Bool", Size: 1}}}}
		for _, a := range tc.args {
			f.Params = append(f.Params, btf.FuncParam{Type: a})
		}
		got, err := switchOrder(&btf.Typedef{Name: "btf_trace_sched_switch", Type: &btf.Pointer{Target: f}})
		if got != tc.want || (err != nil) != tc.bad {
			t.Errorf("%s: %v, %v", tc.name, got, err)
		}
	}
	if _, err := switchOrder(&btf.Typedef{Name: "x", Type: state}); err == nil {
		t.Error("an integer is no function")
	}
}

// The running kernel is one of those that are supported, whose order is known.
func TestOrderOfSwitchArgumentsHere(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Skip("this kernel's BTF can't be read: ", err)
	}
	objs, err := kern.LoadScope()
	if err != nil {
		t.Fatal(err)
	}
	if err := fitTracepoints(objs, spec); err != nil {
		t.Fatal(err)
	}
	var order uint32
	if err := objs.Variables["switch_args_order"].Get(&order); err != nil ||
		kern.ScopeSwitchOrder(order) != kern.ScopeSwitchOrderSTATE_LAST {
		t.Errorf("the order is %d, %v", order, err)
	}
}
