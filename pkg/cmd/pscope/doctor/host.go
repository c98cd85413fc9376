//go:build linux

package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/cpufreq"
	"github.com/p-scope/p-scope/pkg/lack"
)

// What the host says of itself decides nothing: what works is tried (see trial.go). It explains what does not.

// host is what the kernel and the privileges of this process are.
type host struct {
	lack.Host
	release string
	arch    string
	root    string // "/" but in tests: where proc and sys are found
}

func readHost(root string) *host {
	h := &host{Host: lack.ReadHost(root), arch: runtime.GOARCH, root: root}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.release = unix.ByteSliceToString(u.Release[:])
	}
	return h
}

// lacks are those of an agent that are the host's alone.
func (h *host) lacks() []collector.Lack {
	if _, err := cpufreq.NewReader(filepath.Join(h.root, "sys")).Read(time.Now()); errors.Is(err, cpufreq.ErrNone) {
		return []collector.Lack{{What: lack.Frequencies, Why: err.Error(), Fix: cpufreq.FixNone}}
	}
	return nil
}

// checks says what there is. worked is whether the trial had eBPF, which needs what is missing then no more.
func (h *host) checks(worked bool) []Check {
	cs := []Check{h.kernel(), h.architecture(), h.btf(worked)}
	for _, c := range lack.Capabilities() {
		cs = append(cs, h.capability(c, worked))
	}
	cs = append(cs, h.lockdown(worked), h.pidNamespace())
	if h.Seccomp {
		cs = append(cs, Check{Name: "seccomp", Result: Info, Detail: "a filter decides which calls this process " +
			"may make"})
	}
	if h.Nested {
		cs = append(cs, Check{Name: "user namespace", Result: Info, Detail: "not the host's: capabilities in here " +
			"count for nothing outside"})
	}
	cs = append(cs, h.frequency())
	if c, ok := h.unit(); ok {
		cs = append(cs, c)
	}
	return append(cs, h.notes()...)
}

// Where systemd looks for the agent's unit: the administrator's comes before the package's (systemd.unit(5)).
const (
	ownUnit      = "etc/systemd/system/pscope-agent.service"
	packagedUnit = "usr/lib/systemd/system/pscope-agent.service"
)

// unit says that systemd runs an administrator's unit instead of the package's, which then changes nothing any more
// when the package does. ok is false where there are not both.
func (h *host) unit() (c Check, ok bool) {
	own := filepath.Join(h.root, ownUnit)
	if _, err := os.Stat(filepath.Join(h.root, packagedUnit)); err != nil {
		return c, false
	}
	info, err := os.Lstat(own)
	if err != nil {
		return c, false
	}
	if to, err := os.Readlink(own); err == nil && to == os.DevNull {
		return Check{Name: "unit", Result: Info, Detail: "/" + ownUnit + " leads to " + os.DevNull +
			": the unit is masked",
			Fix: "systemctl unmask pscope-agent"}, true
	}
	if !info.Mode().IsRegular() {
		return c, false
	}
	return Check{Name: "unit", Result: Info,
		Detail: "systemd uses /" + ownUnit + " and not the package's /" + packagedUnit,
		Why:    "what a newer package changes in its unit, such as rights and limits, is not in effect",
		Fix: "keep what you changed with systemctl edit pscope-agent, remove /" + ownUnit +
			", then systemctl daemon-reload and systemctl restart pscope-agent"}, true
}

// kernel names it. Which version it is decides nothing.
func (h *host) kernel() Check { return Check{Name: "kernel", Result: Info, Detail: h.release} }

func (h *host) architecture() Check {
	c := Check{Name: "architecture", Result: Info, Detail: h.arch}
	if h.arch != "amd64" && h.arch != "arm64" {
		c.Result, c.Why, c.Fix = Missing, "only amd64 and arm64 are supported", "observe another host"
	}
	return c
}

func (h *host) btf(worked bool) Check {
	c := Check{Name: "BTF", Result: Info, Detail: lack.BTFPath + " is not there"}
	if h.BTF {
		c.Detail = fmt.Sprintf("%s, %.1f MB", lack.BTFPath, float64(h.BTFBytes)/1e6)
		if worked {
			c.Result, c.Tried = OK, true
			c.Detail += ", the programs were fitted to it"
		}
	}
	return c
}

func (h *host) capability(c lack.Capability, worked bool) Check {
	out := Check{Name: c.Name, Result: Info, Detail: "held"}
	forLoading := c.Name == lack.CapBPF || c.Name == lack.CapPerfmon
	switch {
	case h.Held.Has(c.Name):
	case forLoading && worked:
		out.Detail = "not held, and not needed here"
	case forLoading:
		out.Result, out.Detail, out.Why, out.Fix = Missing, "not held", "without it "+c.Without, lack.GivePrivileges()
	default:
		out.Result, out.Detail, out.Why, out.Fix = Limited, "not held", "without it "+c.Without, lack.GivePrivileges()
	}
	return out
}

func (h *host) lockdown(worked bool) Check {
	c := Check{Name: "lockdown", Result: Info, Detail: h.Lockdown}
	switch {
	case h.Lockdown == "":
		c.Detail = "not known: " + lack.LockdownPath + " is not there"
	case h.Lockdown == "confidentiality" && !worked:
		c.Why = "this mode forbids BPF programs to read memory"
	}
	return c
}

func (h *host) pidNamespace() Check {
	switch {
	case h.PIDNamespaceErr != nil:
		return Check{Name: "PID namespace", Result: Unknown, Detail: "not known: " + h.PIDNamespaceErr.Error(),
			Fix: "mount /proc"}
	case h.PIDNamespace:
		return Check{Name: "PID namespace", Result: Limited, Detail: "not the host's",
			Why: "only processes of this container are seen", Fix: lack.HostPIDs}
	}
	return Check{Name: "PID namespace", Result: Info, Detail: "the host's"}
}

func (h *host) frequency() Check {
	r := cpufreq.NewReader(filepath.Join(h.root, "sys"))
	cpus, err := r.Read(time.Now())
	if err != nil {
		c := Check{Name: "CPU frequency", Result: Info, Detail: err.Error() + "; panels about frequency stay empty"}
		if errors.Is(err, cpufreq.ErrNone) {
			c.Fix = cpufreq.FixNone
		}
		return c
	}
	detail := fmt.Sprintf("cpufreq, %d CPUs read", len(cpus))
	if driver, err := os.ReadFile(filepath.Join(h.root, "sys/devices/system/cpu/cpu"+cpus[0].CPU,
		"cpufreq/scaling_driver")); err == nil {
		detail += ", driver " + strings.TrimSpace(string(driver))
	}
	if _, needed := r.Present(); needed {
		detail += "; the kernel keeps no times in bands, so they come from readings and announced changes"
	} else {
		detail += "; times in bands by the kernel's own statistics"
	}
	return Check{Name: "CPU frequency", Result: OK, Tried: true, Detail: detail}
}

// notes are settings which explain a lack but decide nothing by themselves.
func (h *host) notes() []Check {
	var cs []Check
	note := func(name, file, meaning string) {
		v := h.Read(file)
		if v == "" {
			v = "absent"
		}
		cs = append(cs, Check{Name: name, Result: Info, Detail: v + meaning})
	}
	note("perf_event_paranoid", "proc/sys/kernel/perf_event_paranoid", " (up to 2 it does not matter with "+
		"CAP_PERFMON; above, the kernels of Debian and Ubuntu ask for CAP_SYS_ADMIN)")
	note("unprivileged BPF", "proc/sys/kernel/unprivileged_bpf_disabled", " in unprivileged_bpf_disabled (does not "+
		"matter with CAP_BPF)")
	note("ptrace_scope", yamaScope, " (above 0, CAP_SYS_PTRACE is needed even for one's own processes)")
	return cs
}

// yamaScope says who may read the memory of whom (Documentation/admin-guide/LSM/Yama.rst of Linux).
const yamaScope = "proc/sys/kernel/yama/ptrace_scope"

// onlyChildren says whether this process may read the memory of its own children at most.
func (h *host) onlyChildren() bool {
	scope := h.Read(yamaScope)
	return !h.Held.Has(lack.CapSysPtrace) && scope != "" && scope != "0"
}

func readSmall(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}
