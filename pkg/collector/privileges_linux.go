package collector

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Why something is not permitted, and what gives it. The kernel says EPERM for all of it.

// needed are the capabilities that the agent needs, in the order in which they are named.
var needed = []struct {
	number int
	name   string
	lost   string // without it
}{
	{unix.CAP_BPF, "CAP_BPF", "no BPF program can be loaded: snapshots only"},
	{unix.CAP_PERFMON, "CAP_PERFMON", "BPF programs can't be attached or read the scheduler: snapshots only"},
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "only processes of the same user can be read"},
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "programs whose file others may not read can't be inspected"},
}

// setcap is how a user other than root gets them.
const setcap = "sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search=ep $(command -v pscope)"

// privileges are what the agent has at the moment, and what may forbid things in spite of them.
type privileges struct {
	lacks    []string // of needed: names of capabilities that are not effective
	userNS   bool     // the capabilities hold in a user namespace of its own only: a rootless container
	filtered bool     // a seccomp profile is in force, as in a container
	lockdown string   // of the kernel: none, integrity or confidentiality; empty if it has none
	noBPF    bool     // a BPF map can't be made
	noPerf   bool     // a perf event of a CPU can't be opened
}

// readPrivileges asks the kernel.
func readPrivileges() (p privileges) {
	for _, c := range needed {
		if !has(c.number) {
			p.lacks = append(p.lacks, c.name)
		}
	}
	p.userNS = inUserNamespace()
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		p.filtered = field(b, "Seccomp:") == "2"
	}
	if b, err := os.ReadFile("/sys/kernel/security/lockdown"); err == nil {
		if _, rest, ok := bytes.Cut(b, []byte("[")); ok {
			name, _, _ := bytes.Cut(rest, []byte("]"))
			p.lockdown = string(name)
		}
	}
	p.noBPF, p.noPerf = !canMakeMap(), !canOpenPerf()
	return p
}

// field is a line's value in a file of /proc.
func field(b []byte, name string) string {
	for line := range bytes.Lines(b) {
		if v, ok := strings.CutPrefix(string(line), name); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// has is whether the agent has a capability, in its own user namespace.
func has(capability int) bool {
	var data [2]unix.CapUserData
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return unix.Capget(&head, &data[0]) == nil && data[capability/32].Effective&(1<<(capability%32)) != 0
}

// mayTrace is whether the agent has CAP_SYS_PTRACE, which reading the program of any process takes (proc_pid_exe(5)).
func mayTrace() bool { return has(unix.CAP_SYS_PTRACE) }

// inUserNamespace is whether the agent is in another user namespace than the first, whose number the kernel has fixed (include/linux/proc_ns.h, PROC_USER_INIT_INO).
func inUserNamespace() bool {
	const first = 0xEFFFFFFD
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &st) == nil && st.Ino != first
}

// errPIDNamespace says why the kernel side would see nothing: it knows processes by their numbers in the first PID namespace.
var errPIDNamespace = errors.New("the agent is in a PID namespace of its own (a container without the host's), in which processes have other numbers than in the kernel")

// fixPIDNamespace says what helps.
const fixPIDNamespace = "Start the container with the host's PID namespace: --pid host, in Kubernetes hostPID: true"

// inPIDNamespace is whether the agent is in another PID namespace than the first (include/linux/proc_ns.h, PROC_PID_INIT_INO).
func inPIDNamespace() bool {
	const first = 0xEFFFFFFC
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/pid", &st) == nil && st.Ino != first
}

// canMakeMap tries the plainest use of bpf(2).
func canMakeMap() bool {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return !errors.Is(err, os.ErrPermission)
	}
	_ = m.Close()
	return true
}

// canOpenPerf tries a sample of all CPUs' kind.
func canOpenPerf() bool {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: unix.PERF_ATTR_SIZE_VER0, Sample: 1 << 40}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err == nil {
		_ = unix.Close(fd)
	}
	return !errors.Is(err, os.ErrPermission)
}

// why says in words what stands in the way; empty if that can't be told.
func (p privileges) why() string {
	switch {
	case p.userNS && (p.noBPF || p.noPerf):
		return "the agent is in a user namespace (a rootless container), where capabilities do not reach the kernel's own facilities"
	case len(p.lacks) > 0:
		return "the agent lacks " + strings.Join(p.lacks, ", ")
	case p.filtered && (p.noBPF || p.noPerf):
		return fmt.Sprintf("the agent has its capabilities, and the container's seccomp profile forbids %s", p.forbidden())
	case p.lockdown == "confidentiality":
		return "the kernel is locked down (confidentiality), which forbids BPF programs to read its memory and perf events"
	case p.noBPF || p.noPerf:
		return fmt.Sprintf("the agent has its capabilities, and a security module of the kernel forbids %s", p.forbidden())
	}
	return ""
}

// forbidden names the calls that were tried in vain.
func (p privileges) forbidden() string {
	var calls []string
	if p.noBPF {
		calls = append(calls, "bpf(2)")
	}
	if p.noPerf {
		calls = append(calls, "perf_event_open(2)")
	}
	return strings.Join(calls, " and ")
}

// fix says what the user can do.
func (p privileges) fix() string {
	switch {
	case p.userNS && (p.noBPF || p.noPerf):
		return "Run the agent on the host, or in a container that root starts, with the host's PID namespace (docs/install.md, Containers); here it takes snapshots of the processes of its own user"
	case len(p.lacks) > 0 && p.filtered:
		return "Give the container --cap-add BPF --cap-add PERFMON --cap-add SYS_PTRACE --cap-add DAC_READ_SEARCH, and run the agent as the container's root"
	case len(p.lacks) > 0:
		return "Run the agent as root, or give it the capabilities: " + setcap
	case p.filtered && (p.noBPF || p.noPerf):
		return "Start the container with the profile deploy/seccomp/pscope.json: --security-opt seccomp=pscope.json"
	case p.lockdown == "confidentiality":
		return "Boot the kernel with lockdown=integrity or less"
	case p.noBPF || p.noPerf:
		return "Allow them to the agent in the security module's policy (SELinux, AppArmor); the kernel's log names the rule"
	}
	return "Run the agent as root, or give it the capabilities: " + setcap
}

// deniedError is a refusal with what stands behind it.
type deniedError struct {
	what string
	privileges
	err error
}

func (e *deniedError) Error() string {
	if why := e.why(); why != "" {
		return e.what + " is not permitted: " + why
	}
	return fmt.Sprintf("%s is not permitted: %v", e.what, e.err)
}

func (e *deniedError) Unwrap() error { return e.err }

// explainDenied adds to a refusal why it was, other errors it leaves as they are.
func explainDenied(what string, err error) error {
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	return &deniedError{what, readPrivileges(), err}
}
