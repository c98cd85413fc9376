// Package lack is the one place of what P-Scope says where something can't be had: what is missing, why, and what the
// user can do about it.
//
// Agent, doctor, API and plugin take their sentences from here, so that all of them give the same reason in the same
// words. It imports nothing of BPF, because the plugin must not.
package lack

import (
	"fmt"
	"strings"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// Lack is one thing that a host or these privileges don't allow.
type Lack struct {
	What string `json:"what"` // what is missing from the picture
	Why  string `json:"why"`  // what was tried, and what stands in the way
	Fix  string `json:"fix"`  // what the user can do; it begins with a small letter and has no final stop

	kind pb.LackKind // where What names more than a kind; else Kind finds it
}

// Kind is what is missing, for programs: nothing may hang on the words of What. Unspecified: no kind of its own.
func (l Lack) Kind() pb.LackKind {
	if l.kind != pb.LackKind_LACK_KIND_UNSPECIFIED {
		return l.kind
	}
	return kinds[l.What]
}

var kinds = map[string]pb.LackKind{
	EBPF:        pb.LackKind_LACK_KIND_EBPF,
	Stops:       pb.LackKind_LACK_KIND_STOPS,
	Samples:     pb.LackKind_LACK_KIND_SAMPLES,
	Migrations:  pb.LackKind_LACK_KIND_MIGRATIONS,
	OtherUsers:  pb.LackKind_LACK_KIND_OTHER_USERS,
	History:     pb.LackKind_LACK_KIND_HISTORY,
	BothWays:    pb.LackKind_LACK_KIND_BOTH_WAYS,
	Frequencies: pb.LackKind_LACK_KIND_FREQUENCIES,
}

// IsKind says whether a lack that an agent names is of a kind. Agents of the version before name none: then the words
// decide.
func IsKind(l *pb.Lack, kind pb.LackKind) bool {
	if l.GetKind() == pb.LackKind_LACK_KIND_UNSPECIFIED {
		return kinds[l.GetWhat()] == kind
	}
	return l.GetKind() == kind
}

// String is the lack as one or two sentences, without the final stop.
func (l Lack) String() string {
	s := fmt.Sprintf("missing %s, because %s", l.What, l.Why)
	if l.Fix != "" {
		s += ". " + capital(l.Fix)
	}
	return s
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// What can be missing from an agent's picture.
const (
	EBPF       = "eBPF"
	Stops      = "stops"
	Samples    = "samples"
	Migrations = "goroutine migrations"
	OtherUsers = "processes of other users"
	History    = "lasting history"
	BothWays   = "socket and address together"
	// Frequencies is what pkg/cpufreq reads.
	Frequencies = "CPU frequencies"
)

// HostPIDs says how an agent in a container sees the host's processes.
const HostPIDs = "run the agent with the host's PID namespace (docker: --pid host, Kubernetes: hostPID: true)"

// What is lost by a lack of a whole source, for people.
const (
	WithoutEBPF = "without eBPF an agent takes snapshots only (10 a second): shares are estimates, short states are " +
		"missed, and there are no stops and no wake waits"
	// WithoutStops is what probes of tier 1 show.
	WithoutStops = "stops of the world are not seen: neither their length nor their reason"
	// WithoutSamples is what the cpu-clock samples show.
	WithoutSamples = "running, syscall and gc on a CPU can't be told apart and are all shown as running"
	// WithoutMigrations is what tier 2 shows.
	WithoutMigrations = "'pscope agent --migrations' would count nothing"
)

// SnapshotsOnly is the reason in a target's description when eBPF can't be had; why is that of the lack of eBPF.
func SnapshotsOnly(why string) string { return "snapshots only: " + why }

// NoStops is the reason in a target's description when the probes of tier 1 can't be had.
func NoStops(why string) string { return "stops are not seen: " + why }

// StopsComing is why stops are not seen of a target that was found a moment ago.
const StopsComing = "the probes are being attached"

// NoMigrations is the reason in a target's description when tier 2 can't be had.
func NoMigrations(why string) string { return "goroutine migrations are not counted: " + why }

// ModeIsSnapshot is the lack of an agent that was told to take snapshots.
func ModeIsSnapshot() Lack {
	return Lack{What: EBPF, Why: "--mode is snapshot", Fix: "start the agent with --mode auto"}
}

// MigrationsNeedEBPF is the lack of an agent that was told to count migrations and has no eBPF.
func MigrationsNeedEBPF() Lack {
	return Lack{What: Migrations, Why: "they are counted by eBPF, which is missing", Fix: "do what is said of " + EBPF}
}

// StopsSwitchedOff is why a target's stops are not seen when the agent was told to leave the probes out.
const StopsSwitchedOff = "their probes are switched off"

// LastingHistory is the lack of an agent that can't use its data directory.
func LastingHistory(err error) Lack {
	return Lack{What: History, Why: err.Error(), Fix: "start the agent with a --data-dir that it can write"}
}

// SocketAndAddress is the lack of an agent that could take only one of its two ways to be asked.
func SocketAndAddress(err error) Lack {
	return Lack{What: BothWays, Why: err.Error(),
		Fix: "free what the reason names, or choose another with --socket and --listen, and start the agent again"}
}

// Unprotected is the lack of an agent that --insecure lets serve on an address beyond loopback.
func Unprotected(listen string) Lack {
	return Lack{
		kind: pb.LackKind_LACK_KIND_PROTECTION,
		What: "protection of " + listen,
		Why:  "--insecure lets anyone who reaches it ask this agent",
		Fix:  "start the agent with --token-file, or with --tls-cert, --tls-key and --tls-client-ca, instead",
	}
}

// HiddenFromUser is the lack of an agent that may not read the programs of others; which names them.
func HiddenFromUser(which string) Lack {
	return Lack{What: OtherUsers, Why: "the programs of " + which + " may not be read", Fix: GivePrivileges()}
}

// HiddenFromAll is what protects single processes from an agent that may read all others.
func HiddenFromAll(which string) Lack {
	return Lack{
		kind: pb.LackKind_LACK_KIND_PROTECTED_PROCESSES,
		What: "a look at " + which,
		Why: "the kernel does not let the program be read although the agent has CAP_SYS_PTRACE: a security module " +
			"or a user namespace protects it",
		Fix: "there is nothing to do unless it is a Go program that you want to observe: then allow the agent to " +
			"trace it in the security module's rules",
	}
}
