package collector

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Every refusal is the same EPERM. What stands behind it must be said, and what helps against that.
func TestRefusalsAreExplained(t *testing.T) {
	all := []string{"CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"}
	for _, c := range []struct {
		name     string
		p        privileges
		why, fix string
	}{
		{"a user", privileges{lacks: all, noBPF: true, noPerf: true}, "lacks CAP_BPF, CAP_PERFMON", "setcap"},
		{"a capability was taken away", privileges{lacks: all[1:2], noPerf: true}, "lacks CAP_PERFMON", "setcap"},
		{"a container without them", privileges{lacks: all, filtered: true, noBPF: true, noPerf: true}, "lacks CAP_BPF", "--cap-add BPF"},
		{"the profile of Podman", privileges{filtered: true, noBPF: true, noPerf: true}, "seccomp profile forbids bpf(2) and perf_event_open(2)", "deploy/seccomp/pscope.json"},
		{"one that allows bpf alone", privileges{filtered: true, noPerf: true}, "forbids perf_event_open(2)", "deploy/seccomp/pscope.json"},
		{"rootless", privileges{userNS: true, filtered: true, noBPF: true, noPerf: true}, "user namespace", "PID namespace"},
		{"lockdown", privileges{lockdown: "confidentiality"}, "locked down", "lockdown=integrity"},
		{"SELinux", privileges{noBPF: true}, "security module of the kernel forbids bpf(2)", "SELinux"},
	} {
		err := fmt.Errorf("load: %w", &deniedError{"loading BPF programs", c.p, unix.EPERM})
		if !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "loading BPF programs is not permitted") {
			t.Errorf("%s: %v", c.name, err)
		}
		if fix := c.p.fix(); !strings.Contains(fix, c.fix) {
			t.Errorf("%s: %q", c.name, fix)
		}
	}
	// The library's own guess would send the user the wrong way.
	if text := explainLoad(fmt.Errorf("map create: %w (MEMLOCK may be too low, consider rlimit.RemoveMemlock)", unix.EPERM)).Error(); readPrivileges().why() != "" && strings.Contains(text, "MEMLOCK") {
		t.Error(text)
	}
	if err := explainDenied("x", ebpf.ErrNotSupported); !errors.Is(err, ebpf.ErrNotSupported) || strings.Contains(err.Error(), "permitted") {
		t.Error(err)
	}
}
