package pstate

import (
	"fmt"
	"time"
)

// Key identifies a target, one Go runtime in one process, for as long as it lives and never again: a pid alone is
// reused by the kernel, a pid together with its start time is not.
type Key struct {
	PID       int32  // thread group id in the agent's PID namespace
	StartTime uint64 // field 22 of /proc/<pid>/stat, clock ticks since boot
	// Runtime is empty for the runtime of the process's own program, else the base name of the shared library that the
	// runtime is in; "#2" and so on follows where a process has loaded several of one name.
	Runtime string
}

// String renders the key as "pid@start", that of a runtime in a library as "pid@start/library".
func (k Key) String() string {
	if k.Runtime != "" {
		return fmt.Sprintf("%d@%d/%s", k.PID, k.StartTime, k.Runtime)
	}
	return fmt.Sprintf("%d@%d", k.PID, k.StartTime)
}

// Source says how a target is observed.
type Source string

// The sources, as the label `source` of pscope_target_info has them.
const (
	SourceEBPF     Source = "ebpf"
	SourceSnapshot Source = "snapshot"
	SourceRefused  Source = "refused"
)

// Sources lists all sources.
func Sources() []Source { return []Source{SourceEBPF, SourceSnapshot, SourceRefused} }

// Layout says where the positions of the runtime's fields were taken from.
type Layout string

// The layouts, as the label `layout` of pscope_target_info has them.
const (
	LayoutNone   Layout = ""
	LayoutDWARF  Layout = "dwarf"
	LayoutTable  Layout = "table"
	LayoutSearch Layout = "search"
)

// Target describes one Go runtime in one process as far as it does not change from moment to moment. What the process
// says of itself (names, paths, arguments, versions) is cleaned by pkg/internal/cleantext: UTF-8 of printable
// characters, bounded in length.
type Target struct {
	Key
	Process string // base name of the executable
	Exe     string // path of the executable as the target sees it
	// arguments joined by blanks, cut at 1 KiB; only the first one unless the agent may show them (--show-arguments)
	Cmdline   string
	GoVersion string // "go1.26.8"
	Module    string // main module path from the build info, may be empty
	Source    Source
	Layout    Layout
	Reason    string // why it is refused or only snapshotted; empty otherwise
	Started   time.Time
	Container string // container id, where the cgroup path names one
	Pod       string // pod uid or name, where known
	Namespace string // Kubernetes namespace, where known
	Cgroup    string // cgroup path
}

// Labels gives the labels every series of the target carries, without the host. Unknown ones are left out. A runtime in
// a library carries its name from the start, also while it is the only one of its process: a label that came later
// would make other series of the same runtime.
func (t *Target) Labels() map[string]string {
	l := map[string]string{"process": t.Process, "process_pid": fmt.Sprint(t.PID)}
	for k, v := range map[string]string{"container": t.Container, "pod": t.Pod, "namespace": t.Namespace,
		"cgroup": t.Cgroup, "runtime": t.Runtime} {
		if v != "" {
			l[k] = v
		}
	}
	return l
}
