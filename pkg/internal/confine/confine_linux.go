package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Agent confines the process that observes. The capabilities in keep stay if they are held. It can still start
// programs, because it starts the process that keeps the history. Landlock is not used: it forbids to read the memory
// of processes outside its domain (Documentation/userspace-api/landlock.rst of Linux, "Ptrace restrictions").
func Agent(keep ...cap.Value) []Measure {
	return of(
		"agent",
		capabilities(keep),
		noNewPrivileges(),
		systemCalls(slices.Concat(ordinaryCalls, socketCalls, observingCalls)),
	)
}

// History confines the process that keeps the history to the directories in which it writes. Each must exist; without
// any, files and network are left as they are. It keeps no capability, but for CAP_DAC_OVERRIDE where root keeps the
// history in a directory of another user.
func History(dirs ...string) []Measure {
	var keep []cap.Value
	if slices.ContainsFunc(dirs, Foreign) {
		keep = append(keep, cap.DAC_OVERRIDE)
	}
	// Landlock comes before the filter, which does not let its calls pass.
	return of("history", capabilities(keep), noNewPrivileges(), filesAndNetwork(dirs), systemCalls(ordinaryCalls))
}

func of(part string, all ...Measure) []Measure {
	for i := range all {
		all[i].Part = part
	}
	return all
}

// Foreign says whether a file or directory is there and belongs to another user than this process runs as.
func Foreign(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && int(st.Uid) != os.Geteuid()
}

// capabilities drops all but those to keep from the permitted, effective, inheritable, ambient and bounding sets
// (capabilities(7)).
func capabilities(keep []cap.Value) Measure {
	m := Measure{Name: "capabilities"}
	now := cap.GetProc()
	next := cap.NewSet()
	var kept []string
	for v := cap.Value(0); v < cap.MaxBits(); v++ {
		held, err := now.GetFlag(cap.Permitted, v)
		if err != nil {
			return m.failed("read the capabilities", err)
		}
		if held && slices.Contains(keep, v) {
			if err := errors.Join(next.SetFlag(cap.Permitted, true, v),
				next.SetFlag(cap.Effective, true, v)); err != nil {
				return m.failed("choose the capabilities", err)
			}
			kept = append(kept, strings.ToUpper(v.String()))
		}
	}
	bounding := "; a program it starts can't gain others"
	if can, err := now.GetFlag(cap.Effective, cap.SETPCAP); err == nil && can {
		for v := cap.Value(0); v < cap.MaxBits(); v++ {
			if slices.Contains(keep, v) {
				continue
			}
			if err := cap.DropBound(v); err != nil {
				return m.failed("drop "+v.String()+" from the bounding set", err)
			}
		}
	} else {
		bounding = "" // the bounding set takes CAP_SETPCAP; "no new privileges" does the same
	}
	if err := next.SetProc(); err != nil { // takes the ambient ones along, which must be permitted and inheritable
		return m.failed("drop the capabilities", err)
	}
	m.Holds = true
	m.Detail = "none is left" + bounding
	if len(kept) > 0 {
		m.Detail = "only " + strings.Join(kept, ", ") + " are left" + bounding
	}
	return m
}

// noNewPrivileges keeps set-user-ID bits and capabilities of files from taking effect on programs that are started
// (prctl(2), PR_SET_NO_NEW_PRIVS).
func noNewPrivileges() Measure {
	m := Measure{Name: "no new privileges"}
	if err := landlocksys.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return m.failed("set no_new_privs", err)
	}
	m.Holds, m.Detail = true, "no program it starts gains any by its file"
	return m
}

// systemCalls answers every system call that is not in the list with EPERM.
func systemCalls(allowed []string) Measure {
	m := Measure{Name: "system calls"}
	info, err := arch.GetInfo("")
	if err != nil {
		return m.failed("find the numbers of the system calls", err)
	}
	var names []string
	for _, name := range allowed {
		if _, ok := info.SyscallNames[name]; ok { // not every architecture has the old ones
			names = append(names, name)
		}
	}
	// The flag for all threads goes by the calling thread's no_new_privs, so both calls must come from one thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync | seccomp.FilterFlagLog,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionErrno,
			Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionAllow, Names: names}},
		},
	})
	if err != nil {
		return m.failed("load the filter", err)
	}
	m.Holds, m.Detail = true, fmt.Sprintf("%d of %d are left", len(names), len(info.SyscallNames))
	return m
}

// filesAndNetwork lets the process write below the directories and read the time zones, and nothing else, as far as the
// kernel's Landlock goes.
func filesAndNetwork(dirs []string) Measure {
	m := Measure{Name: "files and network"}
	if len(dirs) == 0 {
		m.Detail = "the directory of the history can't be made, so nothing else is closed to it"
		return m
	}
	version, err := landlocksys.LandlockGetABIVersion()
	if err != nil {
		return m.failed("ask for Landlock", err)
	}
	err = landlock.V6.BestEffort().Restrict(
		landlock.RWDirs(dirs...).WithRefer(),
		landlock.RODirs(readable...).IgnoreIfMissing(),
		landlock.ROFiles(readableFiles...).IgnoreIfMissing(),
	)
	if err != nil {
		return m.failed("restrict it by Landlock", err)
	}
	m.Holds = true
	m.Detail = "writes only below " + strings.Join(dirs, " and ")
	if version >= 4 { // Documentation/userspace-api/landlock.rst, "Network support"
		m.Detail += "; no TCP"
	}
	m.Detail += fmt.Sprintf(" (Landlock %d)", version)
	return m
}

// What the process that keeps the history may read besides its directories: its own figures, the kernel's sizes, time
// zones.
var (
	readable      = []string{"/proc/self", "/sys/kernel/mm/transparent_hugepage", "/usr/share/zoneinfo"}
	readableFiles = []string{"/etc/localtime", "/proc/meminfo", "/proc/stat", "/dev/null", "/dev/urandom"}
)

func (m Measure) failed(doing string, err error) Measure {
	why := err.Error()
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		why = "this kernel has it not, or it is switched off: " + why
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		why = "it is forbidden here, probably by the container's own filter: " + why
	}
	m.Detail = doing + ": " + why
	return m
}
