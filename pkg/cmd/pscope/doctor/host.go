//go:build linux

package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/cpufreq"
)

// host is what the kernel and the privileges of this process are.
type host struct {
	release string
	arch    string
	caps    uint64 // effective capabilities, one bit each
	root    string // "/" but in tests: where proc and sys are found
}

func readHost() *host {
	h := &host{arch: runtime.GOARCH, root: "/"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.release = unix.ByteSliceToString(u.Release[:])
	}
	h.caps = effectiveCaps(h.read("proc/self/status"))
	return h
}

// read gives the content of a small file below root without the blanks around it; "" if there is none.
func (h *host) read(path string) string {
	b, err := os.ReadFile(h.root + path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// effectiveCaps reads the line CapEff of /proc/<pid>/status.
func effectiveCaps(status string) uint64 {
	for line := range strings.Lines(status) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			v, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err != nil {
				return 0
			}
			return v
		}
	}
	return 0
}

func (h *host) has(capability int) bool { return h.caps>>capability&1 == 1 }

// canRead says whether the memory of any other process can be read at all: with the capability of every process,
// without it of those of the same user, unless Yama forbids even that.
func (h *host) canRead() bool {
	scope := h.read("proc/sys/kernel/yama/ptrace_scope")
	return h.has(unix.CAP_SYS_PTRACE) || scope == "" || scope == "0"
}

// The oldest kernel on which the programs are meant to load.
const oldestMajor, oldestMinor = 5, 18

// kernelVersion takes major and minor out of a release such as "6.18.44-generic".
func kernelVersion(release string) (major, minor int, ok bool) {
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return major, minor, n == 2
}

const giveCaps = "run the agent as root, or once: sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search=ep \"$(command -v pscope)\"\nin a container: --cap-add BPF --cap-add PERFMON --cap-add SYS_PTRACE --cap-add DAC_READ_SEARCH --pid host"

// checks looks at everything eBPF and snapshots need. Where root helps, it comes first.
func (h *host) checks() []Check {
	var cs []Check
	add := func(c Check) { cs = append(cs, c) }

	add(h.kernel())
	add(h.architecture())
	add(h.btf())
	for _, c := range []struct {
		number int
		name   string
		result Result
		why    string
	}{
		{unix.CAP_BPF, "CAP_BPF", Missing, "without it no BPF program can be loaded"},
		{unix.CAP_PERFMON, "CAP_PERFMON", Missing, "without it no BPF program can be attached to the scheduler or read a process"},
		{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", Limited, "without it only processes of the same user can be read"},
		{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", Limited, "without it executables that only their owner may read can't be inspected"},
	} {
		add(h.capability(c.number, c.name, c.result, c.why))
	}
	add(h.lockdown())
	add(h.pidNamespace())
	for _, p := range []struct {
		name, why string
		needed    Result
		probe     func() error
	}{
		{"raw tracepoints", "the scheduler can't be watched", Missing, func() error { return features.HaveProgramType(ebpf.RawTracepoint) }},
		{"sampling programs", "running, gc and syscall can't be told apart between switches", Missing, func() error { return features.HaveProgramType(ebpf.PerfEvent) }},
		{"ring buffer", "raw intervals can't leave the kernel", Missing, func() error { return features.HaveMapType(ebpf.RingBuf) }},
		{"bpf_loop", "the lists of Ps can't be walked", Missing, func() error { return features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnLoop) }},
		{"uprobe programs", "stops of the world have no exact start, end and reason", Limited, func() error { return features.HaveProgramType(ebpf.Kprobe) }},
	} {
		add(h.feature(p.name, p.why, p.needed, p.probe()))
	}
	add(h.uprobes())
	add(h.frequency())
	return append(cs, h.notes()...)
}

func (h *host) kernel() Check {
	c := Check{Name: "kernel", Result: OK, Detail: h.release}
	major, minor, ok := kernelVersion(h.release)
	if !ok || major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		c.Result = Missing
		c.Why = fmt.Sprintf("eBPF mode needs Linux %d.%d or later", oldestMajor, oldestMinor)
		c.Fix = "boot a newer kernel; until then 'pscope agent --mode snapshot' works"
	}
	return c
}

func (h *host) architecture() Check {
	c := Check{Name: "architecture", Result: OK, Detail: h.arch}
	if h.arch != "amd64" && h.arch != "arm64" {
		c.Result, c.Why, c.Fix = Missing, "only amd64 and arm64 are supported", "observe another host"
	}
	return c
}

func (h *host) btf() Check {
	if fi, err := os.Stat(h.root + "sys/kernel/btf/vmlinux"); err == nil && fi.Size() > 0 {
		return Check{Name: "BTF", Result: OK, Detail: fmt.Sprintf("/sys/kernel/btf/vmlinux, %.1f MB", float64(fi.Size())/1e6)}
	}
	return Check{Name: "BTF", Result: Missing, Detail: "/sys/kernel/btf/vmlinux is not there",
		Why: "the programs can't be fitted to this kernel",
		Fix: "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (all current distribution kernels are); in a container mount /sys; until then 'pscope agent --mode snapshot' works"}
}

func (h *host) capability(number int, name string, lacking Result, why string) Check {
	// CAP_SYS_ADMIN contains CAP_BPF and CAP_PERFMON (kernel/capability.c, bpf_capable and perfmon_capable).
	bySysAdmin := number == unix.CAP_BPF || number == unix.CAP_PERFMON
	switch {
	case h.has(number):
		return Check{Name: name, Result: OK, Detail: "held"}
	case bySysAdmin && h.has(unix.CAP_SYS_ADMIN):
		return Check{Name: name, Result: OK, Detail: "by CAP_SYS_ADMIN"}
	}
	return Check{Name: name, Result: lacking, Detail: "not held", Why: why, Fix: giveCaps}
}

func (h *host) lockdown() Check {
	c := Check{Name: "lockdown", Result: OK, Detail: "none"}
	// "[none] integrity confidentiality": the one in brackets is on.
	if _, rest, ok := strings.Cut(h.read("sys/kernel/security/lockdown"), "["); ok {
		c.Detail, _, _ = strings.Cut(rest, "]")
	}
	if c.Detail == "confidentiality" {
		c.Result = Missing
		c.Why = "this mode forbids BPF programs to read memory"
		c.Fix = "boot with lockdown=integrity or without lockdown; until then 'pscope agent --mode snapshot' works"
	}
	return c
}

// initialPIDNamespace is the inode number of the host's own PID namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO).
const initialPIDNamespace = "pid:[4026531836]"

func (h *host) pidNamespace() Check {
	ns, err := os.Readlink(h.root + "proc/self/ns/pid")
	switch {
	case err != nil:
		return Check{Name: "PID namespace", Result: Unknown, Detail: err.Error(), Fix: "mount /proc"}
	case ns != initialPIDNamespace:
		return Check{Name: "PID namespace", Result: Limited, Detail: "not the host's",
			Why: "only processes of this container are seen", Fix: "run the agent with the host's PID namespace (docker: --pid host, Kubernetes: hostPID: true)"}
	}
	return Check{Name: "PID namespace", Result: OK, Detail: "the host's"}
}

// feature judges the answer of a probe that loads a tiny program or map.
func (h *host) feature(name, why string, lacking Result, err error) Check {
	switch {
	case err == nil:
		return Check{Name: name, Result: OK, Detail: "works"}
	case errors.Is(err, ebpf.ErrNotSupported):
		return Check{Name: name, Result: lacking, Detail: "this kernel has none", Why: why, Fix: fmt.Sprintf("boot Linux %d.%d or later", oldestMajor, oldestMinor)}
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return Check{Name: name, Result: Unknown, Detail: "can't be tried without CAP_BPF and CAP_PERFMON"}
	}
	return Check{Name: name, Result: Unknown, Detail: err.Error(), Why: why}
}

// uprobes says how probes on the runtime's rare functions can be attached.
func (h *host) uprobes() Check {
	const name = "uprobes"
	multi := features.HaveBPFLinkUprobeMulti()
	_, err := os.Stat(h.root + "sys/bus/event_source/devices/uprobe/type")
	switch {
	case multi == nil:
		return Check{Name: name, Result: OK, Detail: "uprobe_multi"}
	case errors.Is(multi, unix.EPERM) || errors.Is(multi, unix.EACCES):
		return Check{Name: name, Result: Unknown, Detail: "can't be tried without CAP_BPF and CAP_PERFMON"}
	case err == nil && h.has(unix.CAP_SYS_ADMIN):
		return Check{Name: name, Result: OK, Detail: "by the perf device"}
	case err == nil:
		return Check{Name: name, Result: Limited, Detail: "only by the perf device, which needs CAP_SYS_ADMIN",
			Why: "stops of the world have no exact start, end and reason", Fix: "add CAP_SYS_ADMIN, or boot Linux 6.6 or later"}
	}
	return Check{Name: name, Result: Limited, Detail: "none", Why: "stops of the world have no exact start, end and reason", Fix: "boot a kernel built with CONFIG_UPROBES=y"}
}

func (h *host) frequency() Check {
	r := cpufreq.NewReader(filepath.Join(h.root, "sys"))
	cpus, err := r.Read(time.Now())
	if err != nil {
		return Check{Name: "CPU frequency", Result: Info, Detail: err.Error() + "; panels about frequency stay empty"}
	}
	detail := fmt.Sprintf("cpufreq, %d CPUs", len(cpus))
	if driver, err := os.ReadFile(filepath.Join(h.root, "sys/devices/system/cpu/cpu"+cpus[0].CPU, "cpufreq/scaling_driver")); err == nil {
		detail += ", driver " + strings.TrimSpace(string(driver))
	}
	if _, needed := r.Present(); needed {
		return Check{Name: "CPU frequency", Result: OK, Detail: detail + "; the kernel keeps no times in bands, so they come from readings and announced changes"}
	}
	return Check{Name: "CPU frequency", Result: OK, Detail: detail + "; times in bands by the kernel's own statistics"}
}

// notes are settings which explain a lack but decide nothing by themselves.
func (h *host) notes() []Check {
	var cs []Check
	note := func(name, file, meaning string) {
		v := h.read(file)
		if v == "" {
			v = "absent"
		}
		cs = append(cs, Check{Name: name, Result: Info, Detail: v + meaning})
	}
	note("perf_event_paranoid", "proc/sys/kernel/perf_event_paranoid", " (does not matter with CAP_PERFMON)")
	note("unprivileged BPF", "proc/sys/kernel/unprivileged_bpf_disabled", " in unprivileged_bpf_disabled (does not matter with CAP_BPF)")
	note("ptrace_scope", "proc/sys/kernel/yama/ptrace_scope", " (above 0, CAP_SYS_PTRACE is needed even for one's own processes)")
	tracefs := "not mounted (not needed)"
	for line := range strings.Lines(h.read("proc/self/mounts")) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "tracefs" {
			tracefs = f[1]
		}
	}
	return append(cs, Check{Name: "tracefs", Result: Info, Detail: tracefs})
}
