package kernel

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/lack"
)

const (
	capsOfBPF = lack.Held(1 << unix.CAP_BPF)
	capsAll   = lack.Held(1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_DAC_READ_SEARCH)
)

// refusal is what the library makes of the verifier's log.
func refusal(program string, cause error, log ...string) error {
	return fmt.Errorf("field X: program %s: %w", program,
		fmt.Errorf("load program: %w", &ebpf.VerifierError{Cause: cause, Log: log}))
}

// The errors are in the words of the library and the kernels on which they were seen.
func TestEachFailureIsGivenItsOwnCause(t *testing.T) {
	mapDenied := fmt.Errorf("field Events: map events: map create: %w (MEMLOCK may be too low, consider "+
		"rlimit.RemoveMemlock)", unix.EPERM)
	progDenied := fmt.Errorf("field Exec: program exec: load program: %w", unix.EPERM)
	noFeatures := func() []string { return nil }
	for _, tc := range []struct {
		name     string
		err      error
		host     lack.Host
		features func() []string
		why      []string // all of it in the reason
		not      []string // nothing of it in reason or fix
		fix      string
	}{
		{"no capability", mapDenied, lack.Host{}, nil,
			[]string{"CAP_BPF and CAP_PERFMON are not held", "bpf(BPF_MAP_CREATE) for the map events",
				"operation not " +
					"permitted"}, []string{"MEMLOCK"}, "setcap"},
		{"CAP_BPF without CAP_PERFMON", progDenied, lack.Host{Held: capsOfBPF}, nil,
			[]string{"CAP_PERFMON is not held", "bpf(BPF_PROG_LOAD) for the program exec"}, []string{"CAP_BPF is"},
			"setcap"},
		{"the limit of locked memory", mapDenied, lack.Host{Held: capsAll}, nil,
			[]string{"RLIMIT_MEMLOCK", "5.11", "the map events"}, nil, "ulimit -l unlimited"},
		{"a user namespace", mapDenied, lack.Host{Held: capsAll, Nested: true}, nil,
			[]string{"user namespace", "rootless"}, []string{"MEMLOCK", "setcap"}, "on the host"},
		{"a user namespace without capabilities", mapDenied, lack.Host{Nested: true}, nil, []string{"user namespace"},
			[]string{"setcap"}, "on the host"},
		{"a seccomp filter", mapDenied, lack.Host{Held: capsAll, Seccomp: true}, nil,
			[]string{"seccomp filter"}, []string{"MEMLOCK"}, "seccomp profile"},
		{"a seccomp filter for the samples", fmt.Errorf("open the cpu-clock event of CPU 0: %w", unix.EPERM),
			lack.Host{Held: capsAll, Seccomp: true}, nil,
			[]string{"seccomp filter", "cpu-clock event of CPU 0"}, nil, "perf_event_open"},
		{"Debian's perf events", fmt.Errorf("open the cpu-clock event of CPU 0: %w", unix.EACCES),
			lack.Host{Held: capsAll, PerfParanoid: "3"}, nil,
			[]string{"kernel.perf_event_paranoid is 3", "CAP_SYS_ADMIN", "cpu-clock event of CPU 0"}, nil,
			"sysctl kernel.perf_event_paranoid=2"},
		{"perf events where the setting is the usual one", fmt.Errorf("open the cpu-clock event of CPU 0: %w",
			unix.EACCES),
			lack.Host{Held: capsAll, PerfParanoid: "2"}, nil, []string{"security module"}, nil, "dmesg"},
		{"a program where perf events are for admins", progDenied, lack.Host{Held: capsAll, PerfParanoid: "3"}, nil,
			[]string{"security module"}, nil, "dmesg"},
		{"a security module", progDenied, lack.Host{Held: capsAll}, nil,
			[]string{"security module", "the program exec"}, nil, "dmesg"},
		{"the depth of the stack on 6.1", refusal("sample", unix.EACCES, "0: R1=ctx", "combined stack size of 2 calls "+
			"is 544. Too large", "processed 9 insns (limit 1000000)"),
			lack.Host{Held: capsAll}, noFeatures,
			[]string{"verifier refuses the program sample", "combined stack size of 2 calls is 544. Too large"},
			[]string{"5.18", "processed"}, "report"},
		{"a helper that 5.10 does not have", refusal("sched_switch", unix.EINVAL, "12: (85) call unknown#181",
			"invalid func unknown#181", "processed 30 insns"),
			lack.Host{Held: capsAll}, noFeatures,
			[]string{"lacks the helper Loop (181)", "sched_switch"}, nil, "6.1 to 7.2"},
		{"lockdown", refusal("sched_switch", unix.EINVAL, "unknown func bpf_probe_read_kernel#113"),
			lack.Host{Held: capsAll, Lockdown: "confidentiality"}, noFeatures,
			[]string{"lockdown", "confidentiality", "bpf_probe_read_kernel"}, nil, "lockdown=integrity"},
		{"lockdown where its mode can't be read", refusal("execute", unix.EINVAL, "program of this type cannot use "+
			"helper bpf_probe_read#4"), lack.Host{Held: capsAll}, noFeatures,
			[]string{"as it does with lockdown in mode confidentiality", "/sys/kernel/security/lockdown is not there",
				"bpf_probe_read"}, nil, "lockdown=integrity"},
		{"lockdown of integrity forbids nothing of this",
			refusal("sched_switch", unix.EINVAL, "unknown func bpf_probe_read_kernel#113"),
			lack.Host{Held: capsAll, Lockdown: "integrity"}, noFeatures,
			[]string{"lacks the helper bpf_probe_read_kernel (113)"}, []string{"lockdown"}, "6.1 to 7.2"},
		{"no BTF", fmt.Errorf("field X: program exec: apply CO-RE relocations: %w",
			fmt.Errorf("no BTF found for kernel version 5.4.0: %w", ebpf.ErrNotSupported)), lack.Host{Held: capsAll},
			noFeatures,
			[]string{"BTF", "/sys/kernel/btf/vmlinux is not there"}, []string{"CO-RE"}, "CONFIG_DEBUG_INFO_BTF"},
		{"BTF without a field", fmt.Errorf("field X: program exec: apply CO-RE relocations: %w",
			errors.New("struct x: not found")), lack.Host{Held: capsAll, BTF: true}, noFeatures,
			[]string{"types (BTF) lack something", "program exec"}, nil, "6.1 to 7.2"},
		{"no ring buffer", fmt.Errorf("field Events: map events: map create: %w", unix.EINVAL),
			lack.Host{Held: capsAll, BTF: true},
			func() []string { return []string{"the ring buffer", "the helper bpf_loop"} },
			[]string{"this kernel lacks the ring buffer, the helper bpf_loop", "the map events"}, nil, "6.1 to 7.2"},
		{"no bpf at all", fmt.Errorf("field Events: map events: map create: %w", unix.ENOSYS),
			lack.Host{Held: capsAll, BTF: true}, nil,
			[]string{"no such call"}, nil, "CONFIG_BPF_SYSCALL"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := explain(tc.err, tc.host, tc.features)
			for _, want := range tc.why {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in the reason: %s", want, err)
				}
			}
			fix := FixFor(err)
			for _, no := range tc.not {
				if strings.Contains(err.Error()+fix, no) {
					t.Errorf("%q is in the reason or the fix: %s; %s", no, err, fix)
				}
			}
			if !strings.Contains(fix, tc.fix) {
				t.Errorf("%q is not in the fix: %s", tc.fix, fix)
			}
			if strings.Contains(err.Error(), "field ") || fix[:1] != strings.ToLower(fix[:1]) ||
				strings.HasSuffix(fix, ".") {
				t.Errorf("not in the form of the other sentences: %s; %s", err, fix)
			}
			if !errors.Is(err, tc.err) {
				t.Error("the error itself is lost")
			}
		})
	}
}

// The reason of a probe is a label: it must not hold what changes from target to target.
func TestAProbesReasonIsTheSameForAllTargets(t *testing.T) {
	of := func(fd int) error {
		return ExplainProbe(fmt.Errorf("probe execute: creating perf_uprobe PMU: token /proc/self/fd/%d:0x5a485: "+
			"opening perf event: %w", fd, unix.EACCES))
	}
	if a, b := of(51), of(52); a.Error() != b.Error() || a.Error() != "probe execute: creating perf_uprobe PMU: "+
		"opening perf event: permission denied" {
		t.Errorf("%s\n%s", a, b)
	}
	if FixFor(of(1)) == reportIt {
		t.Error("it has no fix")
	}
}
