package lack

import "strings"

// Capability is one of those that an agent needs which does not run as root.
type Capability struct {
	Name    string
	Number  int    // include/uapi/linux/capability.h
	Without string // what is lost without it
}

// The capabilities' numbers.
const (
	capDACReadSearch = 2
	capSysPtrace     = 19
	capSysAdmin      = 21
	capPerfmon       = 38
	capBPF           = 39
)

// Names of capabilities, as sentences have them.
const (
	CapBPF           = "CAP_BPF"
	CapPerfmon       = "CAP_PERFMON"
	CapSysPtrace     = "CAP_SYS_PTRACE"
	CapDACReadSearch = "CAP_DAC_READ_SEARCH"
	CapSysAdmin      = "CAP_SYS_ADMIN"
)

// Capabilities are those that an agent needs which does not run as root.
func Capabilities() []Capability {
	return []Capability{
		{CapBPF, capBPF, "no BPF program can be loaded: snapshots only"},
		{CapPerfmon, capPerfmon, "no BPF program can be attached to the scheduler or read a process: snapshots only"},
		{CapSysPtrace, capSysPtrace, "only processes of the same user can be read"},
		{CapDACReadSearch, capDACReadSearch, "executables that only their owner may read can't be inspected"},
	}
}

// Held is a set of capabilities, a bit each, as /proc/<pid>/status has it in CapEff.
type Held uint64

// Has says whether a capability of Capabilities is held. CAP_SYS_ADMIN contains CAP_BPF and CAP_PERFMON
// (include/linux/capability.h, bpf_capable and perfmon_capable), root's other capabilities stand for themselves.
func (h Held) Has(name string) bool {
	bit := func(n int) bool { return h>>n&1 == 1 }
	switch name {
	case CapSysAdmin:
		return bit(capSysAdmin)
	case CapBPF:
		return bit(capBPF) || bit(capSysAdmin)
	case CapPerfmon:
		return bit(capPerfmon) || bit(capSysAdmin)
	case CapSysPtrace:
		return bit(capSysPtrace)
	case CapDACReadSearch:
		return bit(capDACReadSearch) || bit(1) // CAP_DAC_OVERRIDE
	}
	return false
}

// Missing are those of Capabilities that are not held.
func (h Held) Missing() (names []string) {
	for _, c := range Capabilities() {
		if !h.Has(c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}

// SetCap is the command that gives a program the capabilities. The program is quoted for a shell already.
func SetCap(program string) string {
	var names []string
	for _, c := range Capabilities() {
		names = append(names, strings.ToLower(c.Name))
	}
	return "sudo setcap " + strings.Join(names, ",") + "=ep " + program
}

// Pscope is the installed agent, for a shell.
const Pscope = `"$(command -v pscope)"`

// GivePrivileges says how the agent gets all that it needs.
func GivePrivileges() string {
	var add []string
	for _, c := range Capabilities() {
		add = append(add, "--cap-add "+strings.TrimPrefix(c.Name, "CAP_"))
	}
	return "run the agent as root, or give it the capabilities once: " + SetCap(Pscope) + "; in a container: " +
		strings.Join(add, " ") + " --pid host"
}
