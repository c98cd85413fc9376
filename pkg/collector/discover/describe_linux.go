package discover

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	gomemory "github.com/p-scope/p-scope/pkg/goruntime/memory"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Options set up a finder.
type Options struct {
	Proc          procfs.FS
	Log           *slog.Logger
	Only          int32 // the one process to look at; 0: all
	ShowArguments bool
}

// named is a process with the names that it is asked for by, cleaned. Nothing else is read of most processes of a host.
func (o *Options) named(pid int32, stat procfs.Stat) pstate.Target {
	t := pstate.Target{Key: pstate.Key{PID: pid, StartTime: stat.StartTime}}
	process := stat.Comm
	if exe, err := os.Readlink(o.Proc.Path(pid, "exe")); err == nil {
		exe = strings.TrimSuffix(exe, " (deleted)")
		t.Exe = cleantext.Name(exe, cleantext.MaxPath)
		process = filepath.Base(exe)
	}
	t.Process = cleantext.Name(process, cleantext.MaxName)
	return t
}

// describe fills what else /proc says of a process.
func (o *Options) describe(t *pstate.Target) {
	if b, err := procfs.ReadAtMost(o.Proc.Path(t.PID, "cmdline"), procfs.MaxFile); err == nil {
		if !o.ShowArguments {
			b, _, _ = bytes.Cut(b, []byte{0})
		}
		text := string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))
		t.Cmdline = cleantext.Text(strings.TrimSpace(text), cleantext.MaxCmdline)
	}
	if b, err := procfs.ReadAtMost(o.Proc.Path(t.PID, "cgroup"), procfs.MaxFile); err == nil {
		t.Cgroup, t.Container, t.Pod = parseCgroup(string(b))
	}
	t.Started = procfs.StartedAt(t.StartTime)
}

// userOf is the real user of a process; root's if it isn't known.
func (o *Options) userOf(pid int32) uint32 {
	var buf procfs.Buffer
	b, err := o.Proc.File(&buf, pid, "status")
	if err != nil {
		return rootUser
	}
	return gomemory.RealUser(b)
}
