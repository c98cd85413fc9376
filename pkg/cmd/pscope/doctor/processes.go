//go:build linux

package doctor

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Process is one running Go process.
type Process struct {
	PID       int           `json:"pid"`
	Process   string        `json:"process"` // base name of the executable
	Exe       string        `json:"exe"`
	GoVersion string        `json:"go_version,omitempty"`
	Layout    pstate.Layout `json:"layout,omitempty"`
	// Observable is how an agent started the same way would observe it: ebpf, snapshot, or empty when it can't.
	Observable string `json:"observable,omitempty"`
	Reason     string `json:"reason,omitempty"`
	// Migrations says why goroutine migrations could not be counted in it, if an agent were asked to; empty: they could.
	Migrations string `json:"no_migrations,omitempty"`
	Fix        string `json:"fix,omitempty"`
}

// goProcesses looks at every process but this one. hidden counts those whose executable can't be read.
func goProcesses(ebpf bool) (ps []Process, hidden int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, 0
	}
	inspected := map[string]inspection{} // executables that many processes share are read once
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, isGo, err := examineProcess(pid, ebpf, inspected)
		switch {
		case errors.Is(err, os.ErrPermission):
			hidden++
		case err == nil && isGo:
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, func(a, b Process) int { return cmp.Or(cmp.Compare(a.Process, b.Process), cmp.Compare(a.PID, b.PID)) })
	return ps, hidden
}

// inspection is what is known of an executable.
type inspection struct {
	binary *goruntime.Binary
	err    error
}

// examineProcess says whether pid is a Go process and whether it can be observed. The error is that of reading its executable.
func examineProcess(pid int, ebpf bool, inspected map[string]inspection) (p Process, isGo bool, err error) {
	link := "/proc/" + strconv.Itoa(pid) + "/exe"
	exe, err := os.Readlink(link)
	if err != nil {
		return p, false, err // a kernel thread, gone, or another user's
	}
	f, err := os.Open(link)
	if err != nil {
		return p, false, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return p, false, err
	}
	// The path alone is no identity: it may be replaced, or lie in another mount namespace.
	id := exe + fi.ModTime().String() + strconv.FormatInt(fi.Size(), 10)
	in, ok := inspected[id]
	if !ok {
		in.binary, in.err = goruntime.Inspect(f)
		inspected[id] = in
	}
	p = Process{PID: pid, Process: cleantext.Name(filepath.Base(exe), cleantext.MaxName), Exe: cleantext.Name(exe, cleantext.MaxPath)}
	if in.err != nil {
		if errors.Is(in.err, &goruntime.RefusedError{Reason: goruntime.ReasonNotGo}) || errors.Is(in.err, &goruntime.RefusedError{Reason: goruntime.ReasonMalformed}) {
			return p, false, nil
		}
		p.Reason, p.Fix = cleantext.Text(in.err.Error(), cleantext.MaxReason), fixFor(in.err)
		return p, true, nil
	}
	p.GoVersion, p.Layout = cleantext.Name(in.binary.GoVersion, cleantext.MaxName), in.binary.LayoutSource
	// Opening the memory asks the kernel the same question as reading it: may this process attach to that one?
	mem, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mem")
	if err != nil {
		p.Reason = "its memory can't be read: " + err.Error()
		p.Fix = "run the agent as root or with CAP_SYS_PTRACE"
		return p, true, nil
	}
	_ = mem.Close()
	if in.binary.LayoutSource == pstate.LayoutSearch {
		// What a search has found in the program holds only if this process's memory agrees.
		if err := prove(pid, in.binary); err != nil {
			p.Reason, p.Fix = err.Error(), fixFor(err)
			return p, true, nil
		}
	}
	p.Observable = string(pstate.SourceSnapshot)
	if ebpf {
		p.Observable = string(pstate.SourceEBPF)
		if _, err := in.binary.StartedProbe(); err != nil {
			p.Migrations = err.Error()
		}
	}
	return p, true, nil
}

// prove checks a layout against the memory of one process.
func prove(pid int, b *goruntime.Binary) error {
	p, err := goruntime.OpenProcess(pid, b)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Validate()
}

// fixFor says what to do about a binary that is refused.
func fixFor(err error) string {
	var r *goruntime.RefusedError
	if !errors.As(err, &r) {
		return ""
	}
	switch r.Reason {
	case goruntime.ReasonGoTooOld:
		return "build the program with Go 1.21 or later"
	case goruntime.ReasonGoUnknown:
		return "update P-Scope, or build the program with debugging information (without -ldflags=-w)"
	case goruntime.ReasonMemory:
		return "report this program, with its Go version; with debugging information (without -ldflags=-w) it needs no search"
	case goruntime.ReasonNoVariables:
		return "build the program with its symbol table (without -ldflags=-s)"
	case goruntime.ReasonArch:
		return "only amd64 and arm64 programs can be observed"
	case goruntime.ReasonUnreadable:
		return "run this as root"
	}
	return ""
}
