package kernel

import (
	"reflect"

	"github.com/cilium/ebpf"
)

// What the kernel itself counts of our programs that it did not run. A program is not run where it is running on that
// CPU already, interrupted by what would run it again: for raw tracepoints since Linux 6.1 (kernel/trace/bpf_trace.c,
// __bpf_trace_run), for probes where a kernel guards them so. Of cpu-clock samples the kernel counts none
// (kernel/events/core.c, bpf_overflow_handler): those are counted by sampling.

// programs are those that the object has.
func (k *Side) programs() (all []*ebpf.Program) {
	v := reflect.ValueOf(&k.Objects.ScopePrograms).Elem()
	for i := range v.NumField() {
		if p, ok := v.Field(i).Interface().(*ebpf.Program); ok && p != nil {
			all = append(all, p)
		}
	}
	return all
}

// recursionMisses is how often the kernel did not run one of these programs. A program that can't be asked, as before
// Linux 5.12, is left out.
func recursionMisses(programs []*ebpf.Program) (n uint64) {
	for _, p := range programs {
		if stats, err := p.Stats(); err == nil {
			n += stats.RecursionMisses
		}
	}
	return n
}
