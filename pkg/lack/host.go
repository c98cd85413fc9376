package lack

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Host is what the kernel says of itself and of this process, as far as it explains why something can't be had. It
// judges nothing: what works is found out by trying it.
type Host struct {
	Held Held // effective capabilities of this process
	// Nested is whether this process is in a user namespace of its own: the kernel asks for capabilities in the host's.
	Nested bool
	// Seccomp is whether a filter decides which system calls this process may make, as container runtimes set one.
	Seccomp bool
	// Lockdown is none, integrity or confidentiality; empty if it is not known: the kernel knows no lockdown, or
	// securityfs is not mounted here.
	Lockdown string
	// BTF is whether the kernel brings its types along; BTFBytes how large they are.
	BTF      bool
	BTFBytes int64
	// PerfParanoid is the setting kernel.perf_event_paranoid; empty if it is not known.
	PerfParanoid string
	// PIDNamespace is whether this process sees only processes of a PID namespace of its own; PIDNamespaceErr why that
	// is not known.
	PIDNamespace    bool
	PIDNamespaceErr error

	root string
}

// BTFPath is where the kernel has its types.
const BTFPath = "/sys/kernel/btf/vmlinux"

// LockdownPath is where the kernel says its mode of lockdown, where securityfs is mounted.
const LockdownPath = "/sys/kernel/security/lockdown"

// ReadHost reads it. The root is "/" but in tests.
func ReadHost(root string) Host {
	h := Host{root: root}
	status := h.Read("proc/self/status")
	held, _ := strconv.ParseUint(field(status, "CapEff:"), 16, 64)
	h.Held = Held(held)
	h.Seccomp = field(status, "Seccomp:") == "2" // proc_pid_status(5)
	user, err := os.Readlink(filepath.Join(root, "proc/self/ns/user"))
	h.Nested = err == nil && user != initialUserNamespace
	// "[none] integrity confidentiality": the one in brackets is on.
	if _, rest, ok := strings.Cut(h.Read(LockdownPath), "["); ok {
		h.Lockdown, _, _ = strings.Cut(rest, "]")
	}
	if fi, err := os.Stat(filepath.Join(root, BTFPath)); err == nil && fi.Size() > 0 {
		h.BTF, h.BTFBytes = true, fi.Size()
	}
	h.PerfParanoid = h.Read("proc/sys/kernel/perf_event_paranoid")
	ns, err := os.Readlink(filepath.Join(root, "proc/self/ns/pid"))
	h.PIDNamespace, h.PIDNamespaceErr = err == nil && ns != initialPIDNamespace, err
	return h
}

// PerfForAdminsOnly says whether this process may be refused perf events although it holds CAP_PERFMON: Debian and
// Ubuntu patch their kernels so that values of kernel.perf_event_paranoid above 2 ask for CAP_SYS_ADMIN. Other kernels
// know no such values, but keep what is written there.
func (h Host) PerfForAdminsOnly() bool {
	return h.PerfRestricted() && h.Held.Has(CapPerfmon) && !h.Held.Has(CapSysAdmin)
}

// PerfRestricted says whether kernel.perf_event_paranoid is set to a value that, on kernels patched so, asks for
// CAP_SYS_ADMIN.
func (h Host) PerfRestricted() bool {
	level, err := strconv.Atoi(h.PerfParanoid)
	return err == nil && level > 2
}

// The inode numbers of the host's own namespaces (include/linux/proc_ns.h, PROC_PID_INIT_INO and PROC_USER_INIT_INO).
const (
	initialPIDNamespace  = "pid:[4026531836]"
	initialUserNamespace = "user:[4026531837]"
)

// Read gives the content of a small file below the root without the blanks around it; "" if there is none.
func (h *Host) Read(path string) string {
	b, err := os.ReadFile(filepath.Join(h.root, path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// field gives what follows a name in a file like /proc/self/status.
func field(file, name string) string {
	for line := range strings.Lines(file) {
		if v, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
