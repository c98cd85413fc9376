package kernel

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/lack"
)

// What the agent asks of the kernel is tried, never guessed from a version number. Where it fails, this file says what
// failed, why, and what the user can do. The sentences are those of log, health check, pscope_target_info and doctor.

// failure is an error of something that the kernel was asked for.
type failure struct {
	why string // what was tried and what stands in the way
	fix string
	err error
}

func (f *failure) Error() string { return f.why }
func (f *failure) Unwrap() error { return f.err }

// Fix says what the user can do.
func (f *failure) Fix() string { return f.fix }

// FixFor says what the user can do about an error that explain has been given, or that says so itself.
func FixFor(err error) string {
	var own interface{ Fix() string }
	if errors.As(err, &own) {
		return own.Fix()
	}
	return reportIt
}

const (
	reportIt  = "report this with the output of 'pscope doctor --json'; until then the agent takes snapshots"
	newKernel = "use a newer kernel: P-Scope is tested on Linux 6.1 to 7.2; until then the agent takes snapshots"
	withBTF   = "use a kernel that is built with CONFIG_DEBUG_INFO_BTF=y (current distributions' are); " +
		"in a container mount /sys; until then the agent takes snapshots"
	noFilter = "allow bpf and perf_event_open in the seccomp profile of the container or service; " +
		"deploy/seccomp/pscope.json does"
)

// Load loads and attaches everything that needs no target, or finds out why that can't be.
func Load(o *Options) (*Side, error) {
	// Everything would load, attach, and see nothing. In a user namespace of its own besides it does not even load, and
	// that is what stands in the way.
	if host := lack.ReadHost("/"); host.PIDNamespace && !host.Nested {
		return nil, &failure{
			why: "the agent is in a PID namespace of its own, and BPF programs see the host's process numbers: " +
				"they would find none of its targets",
			fix: lack.HostPIDs,
		}
	}
	k, err := load(o)
	if err != nil {
		return nil, explainLoad(err)
	}
	return k, nil
}

// explainLoad finds out why the BPF programs can't be loaded or attached.
func explainLoad(err error) error { return explain(err, lack.ReadHost("/"), missingFeatures) }

// explainSamples is likewise for the cpu-clock samples.
func explainSamples(err error) error { return explain(err, lack.ReadHost("/"), nil) }

// perfEvent is in every error of a sample's perf event (pkg/collector/sampling_linux.go).
const perfEvent = "cpu-clock event"

// explain finds out why something that was asked of the kernel failed. features names what the kernel lacks, and is
// asked only if that may be the cause.
func explain(err error, host lack.Host, features func() []string) error {
	f := &failure{err: err}
	denied := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	var missing []string
	for _, name := range []string{lack.CapBPF, lack.CapPerfmon} {
		if !host.Held.Has(name) {
			missing = append(missing, name)
		}
	}
	var refused *ebpf.VerifierError
	switch {
	case denied && host.Nested:
		f.why = "the agent is in a user namespace (a rootless container), and the kernel asks for capabilities " +
			"on the " +
			"host: " + stepOf(err)
		f.fix = "run the agent on the host or in a container that root starts, with the host's PID namespace; " +
			"here it takes snapshots of the processes of its own user"
	case denied && len(missing) > 0:
		verb := " is"
		if len(missing) > 1 {
			verb = " are"
		}
		f.why, f.fix = strings.Join(missing, " and ")+verb+" not held: "+stepOf(err), lack.GivePrivileges()
	case errors.As(err, &refused) && len(refused.Log) > 0:
		explainVerifier(f, refused, host, features)
	case denied && host.PerfForAdminsOnly() && strings.Contains(err.Error(), perfEvent):
		f.why = "kernel.perf_event_paranoid is " + host.PerfParanoid +
			", with which the kernels of Debian and Ubuntu let only " + lack.CapSysAdmin + " open perf events: " +
			stepOf(err)
		f.fix = "set it to 2, which is what other kernels have: sysctl kernel.perf_event_paranoid=2, and the same " +
			"line in " +
			"a file in /etc/sysctl.d; or give the agent " + lack.CapSysAdmin
	case denied && host.Seccomp:
		f.why, f.fix = "a seccomp filter stands in the way, as all capabilities are held: "+stepOf(err), noFilter
	case denied && host.Lockdown == "confidentiality":
		f.why, f.fix = lockedDown+": "+stepOf(err), unlock
	case denied && strings.Contains(err.Error(), "MEMLOCK"):
		f.why = fmt.Sprintf("the kernel did not permit it although all capabilities are held; kernels before 5.11 "+
			"count "+
			"maps against RLIMIT_MEMLOCK, which is %s: %s", memlock(), stepOf(err))
		f.fix = "give the agent CAP_SYS_RESOURCE, or raise the limit: ulimit -l unlimited, or " +
			"LimitMEMLOCK=infinity in " +
			"its unit"
	case denied:
		f.why = "all capabilities are held, but a security module or the kernel's settings forbid it: " + stepOf(err)
		f.fix = "look for the denial in the kernel's log (dmesg, ausearch) and allow it there"
	case errors.Is(err, unix.ENOSYS):
		f.why = "the kernel has no such call, or a seccomp filter hides it: " + stepOf(err)
		f.fix = "use a kernel that is built with CONFIG_BPF_SYSCALL and CONFIG_PERF_EVENTS, or " + noFilter
	case !host.BTF && strings.Contains(err.Error(), "no BTF found"):
		f.why = "the kernel's types (BTF) are missing, without which the programs can't be fitted to it: " +
			lack.BTFPath +
			" is not there"
		f.fix = withBTF
	case strings.Contains(err.Error(), "CO-RE"):
		f.why, f.fix = "this kernel's types (BTF) lack something that is needed: "+stepOf(err), newKernel
	default:
		f.why, f.fix = stepOf(err), reportIt
		if lacking := ask(features); lacking != "" {
			f.why, f.fix = lacking+": "+f.why, newKernel
		}
	}
	return f
}

const (
	lockedDown     = "kernel lockdown is in mode confidentiality, which forbids BPF programs to read memory"
	likeLockedDown = "the kernel lets BPF programs read no memory, as it does with lockdown in mode confidentiality (" +
		lack.LockdownPath + " is not there to ask)"
	unlock = "boot with lockdown=integrity or without lockdown; until then the agent takes snapshots"
)

// explainVerifier says which program the verifier refuses, and its own last words.
func explainVerifier(f *failure, refused *ebpf.VerifierError, host lack.Host, features func() []string) {
	words := lastWords(refused.Log)
	f.why = fmt.Sprintf("the kernel's verifier refuses %s: %s", programOf(f.err), words)
	f.fix = reportIt
	if id, helper := unknownHelper(words); helper != "" {
		if host.Lockdown == "confidentiality" && strings.Contains(helper, "probe_read") {
			f.why, f.fix = lockedDown+": "+f.why, unlock
			return
		}
		// Every kernel with BPF for tracing has these helpers; lockdown takes them away (kernel/bpf/helpers.c,
		// bpf_base_func_proto). Containers seldom see its mode.
		if host.Lockdown == "" && strings.Contains(helper, "probe_read") {
			f.why, f.fix = likeLockedDown+": "+f.why, unlock
			return
		}
		f.why = fmt.Sprintf("this kernel lacks the helper %s (%d), which %s calls: %s", helper, id, programOf(f.err),
			words)
		f.fix = newKernel
		return
	}
	if lacking := ask(features); lacking != "" {
		f.why, f.fix = lacking+": "+f.why, newKernel
	}
}

func ask(features func() []string) string {
	if features == nil {
		return ""
	}
	if lacking := features(); len(lacking) > 0 {
		return "this kernel lacks " + strings.Join(lacking, ", ")
	}
	return ""
}

// lastWords is the line in which the verifier says what it does not accept: the last one, unless that is its
// statistics.
func lastWords(log []string) string {
	for _, line := range slices.Backward(log) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "processed "), strings.HasPrefix(line, "verification time"),
			strings.HasPrefix(line, "stack depth"):
		default:
			return line
		}
	}
	return "it gives no reason"
}

// helperUnknown are the verifier's words for a helper that the kernel does not have, or not for this type of program
// (kernel/bpf/verifier.c).
var helperUnknown = regexp.MustCompile(`(?:unknown func |cannot use helper |invalid func )(\w+)#(\d+)`)

func unknownHelper(words string) (id int, name string) {
	m := helperUnknown.FindStringSubmatch(words)
	if m == nil {
		return 0, ""
	}
	id, err := strconv.Atoi(m[2])
	if err != nil {
		return 0, ""
	}
	if name = m[1]; name == "unknown" {
		name = strings.TrimPrefix(asm.BuiltinFunc(id).String(), "Fn")
	}
	return id, name
}

// What errors of the library say of the program or map that they are about: "field X: program NAME: load program: …",
// "field X: program NAME: map NAME: map create: …".
var (
	ofMap     = regexp.MustCompile(`map ([\w.]+): map create: `)
	ofProgram = regexp.MustCompile(`program (\w+): `)
)

func programOf(err error) string {
	if m := ofProgram.FindStringSubmatch(err.Error()); m != nil {
		return "the program " + m[1]
	}
	return "a program"
}

// stepOf says what was asked of the kernel and what it answered.
func stepOf(err error) string {
	text := err.Error()
	cause := text
	var errno unix.Errno
	if errors.As(err, &errno) {
		cause = errno.Error()
	}
	switch m := ofMap.FindStringSubmatch(text); {
	case m != nil:
		return fmt.Sprintf("bpf(BPF_MAP_CREATE) for the map %s: %s", m[1], cause)
	case strings.Contains(text, ": load program: "):
		return fmt.Sprintf("bpf(BPF_PROG_LOAD) for %s: %s", programOf(err), cause)
	case strings.Contains(text, "load BTF: "):
		return fmt.Sprintf("bpf(BPF_BTF_LOAD) for %s: %s", programOf(err), cause)
	}
	_, rest, ok := strings.Cut(text, "field ")
	if ok && strings.HasPrefix(text, "field ") {
		if _, after, ok := strings.Cut(rest, ": "); ok {
			return after
		}
	}
	return text
}

// missingFeatures names what the programs use and this kernel does not have. Each is tried with a tiny program or map.
func missingFeatures() (names []string) {
	for _, f := range []struct {
		name string
		try  func() error
	}{
		{"raw tracepoints", func() error { return features.HaveProgramType(ebpf.RawTracepoint) }},
		{"programs for perf events", func() error { return features.HaveProgramType(ebpf.PerfEvent) }},
		{"programs for uprobes", func() error { return features.HaveProgramType(ebpf.Kprobe) }},
		{"the ring buffer", func() error { return features.HaveMapType(ebpf.RingBuf) }},
		{"the helper bpf_loop", func() error { return features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnLoop) }},
	} {
		if errors.Is(f.try(), ebpf.ErrNotSupported) {
			names = append(names, f.name)
		}
	}
	return names
}

func memlock() string {
	var r unix.Rlimit
	switch err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r); {
	case err != nil:
		return "not known"
	case r.Cur == unix.RLIM_INFINITY:
		return "unlimited"
	default:
		return fmt.Sprintf("%d KiB", r.Cur>>10)
	}
}

// loadAndAssign loads the programs and maps. Kernels before 5.11 count their memory against RLIMIT_MEMLOCK and say no
// more than EPERM: then the limit is raised, where that is permitted, and it is tried once more.
func loadAndAssign(spec *ebpf.CollectionSpec, to any) error {
	err := spec.LoadAndAssign(to, nil)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	held := lack.ReadHost("/").Held
	if !held.Has(lack.CapBPF) || !held.Has(lack.CapPerfmon) {
		return err
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited) != nil {
		return err
	}
	return spec.LoadAndAssign(to, nil)
}

// LackOf is a lack by an error that has been explained.
func LackOf(what string, err error) lack.Lack {
	return lack.Lack{What: what, Why: err.Error(), Fix: FixFor(err)}
}

// uprobeToken is what the library says of where a probe was to go: the agent's own descriptor, another one with every
// target.
var uprobeToken = regexp.MustCompile(`token \S+: `)

// ExplainProbe says why a probe could not be put into a target, in words that are the same for all targets where the
// reason is.
func ExplainProbe(err error) error {
	f := &failure{why: cleantext.Text(uprobeToken.ReplaceAllString(err.Error(), ""), cleantext.MaxReason), err: err}
	var own interface{ Fix() string }
	switch {
	case errors.As(err, &own):
		f.fix = own.Fix()
	case errors.Is(err, os.ErrPermission):
		f.fix = "run the agent as root, or give it " + lack.CapSysAdmin +
			" as well: this kernel lets nobody else use uprobes by perf events"
	case errors.Is(err, ebpf.ErrNotSupported):
		f.fix = "use a kernel that is built with CONFIG_UPROBES and CONFIG_UPROBE_EVENTS"
	}
	return f
}
