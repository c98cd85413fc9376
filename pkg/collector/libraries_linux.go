package collector

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Go also comes into processes in shared libraries (-buildmode=c-shared): those that a program is linked with, and
// those that it loads while it runs, as Python does. They are found among the files of which a process has mapped code.
// Nothing tells when a library is loaded, but a Go runtime reserves address space when it starts, 64 MiB and more, and
// how much of that a process has stands in a file that costs microseconds to read.

const (
	growthOfLibrary = 1 << 20 // bytes of address space; without at least so many more, no runtime has been loaded
	// scans, after which a process is looked at again whatever its size: it may have given back what a library took
	lookAtLeast   = 12
	maxLibraries  = 4096 // files remembered
	newFilesALook = 256  // files opened for one look at one process; the next look goes on
)

// libraries remembers what was seen of libraries. Only the finder's goroutine touches it.
type libraries struct {
	files  map[libraryID]*inspected // an entry of neither is a library without Go
	looked map[int32]lookedAt
}

// libraryID tells the contents of a library from others, as far as that is possible without reading them.
type libraryID struct {
	fileID
	size int64
}

// lookedAt is what a process was like when its libraries were looked at.
type lookedAt struct {
	id     procID
	lowest uint64 // its smallest address space since then
	scans  int    // since then
	denied bool
}

// lookAgain makes the next check look, whatever the process's size.
func (l *libraries) lookAgain(pid int32) { delete(l.looked, pid) }

// forget drops what was known of a process.
func (l *libraries) forget(pid int32) { delete(l.looked, pid) }

// due says whether a process may have loaded a library since it was looked at last.
func (l *libraries) due(pid int32, id procID, size uint64) bool {
	was, ok := l.looked[pid]
	if !ok || was.id != id {
		return true
	}
	was.lowest = min(was.lowest, size)
	was.scans++
	l.looked[pid] = was
	return !was.denied && (size >= was.lowest+growthOfLibrary || was.scans >= lookAtLeast)
}

// runtimesOf lists what is observed of a process.
func (c *collect) runtimesOf(pid int32, startTime uint64) (list []*observed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, o := range c.observed {
		if k.PID == pid && k.StartTime == startTime {
			list = append(list, o)
		}
	}
	return list
}

// onlySnapshots says why a runtime is not observed by eBPF although others are: BPF programs know one runtime in each
// process.
func (c *collect) onlySnapshots(key pstate.Key) string {
	if c.kernel == nil {
		return ""
	}
	for _, o := range c.runtimesOf(key.PID, key.StartTime) {
		if o.index != 0 && o.info.Key != key {
			return severalRuntimes(o.info.Runtime)
		}
	}
	return ""
}

func severalRuntimes(first string) string {
	if first == "" {
		first = "that of its program"
	} else {
		first = "the one in " + first
	}
	return "snapshots only: the process has several Go runtimes, and eBPF observes one of them, " + first
}

// checkLibraries looks for Go in the libraries of a process that check has looked at.
func (f *finder) checkLibraries(ctx context.Context, pid int32) {
	id, ok := f.known[pid]
	if !ok || id.exe == (fileID{}) || f.starts.going[pid] {
		// it is being started, which comes first; it is not settled what it runs, it is a thread of the kernel, or it may not
		// be looked at
		return
	}
	stat, err := f.c.o.readStat(pid)
	if err != nil || stat.state == 'Z' || stat.startTime != id.startTime || !f.libs.due(pid, id, stat.size) {
		return
	}
	base := f.c.o.named(pid, stat)
	if !f.wanted(&base) {
		return
	}
	maps, err := os.Open(f.c.o.procPath(pid, "maps"))
	if err != nil {
		f.libs.note(pid, lookedAt{id: id, lowest: stat.size, denied: errors.Is(err, os.ErrPermission)})
		return
	}
	mapped, err := goruntime.MappedFiles(maps)
	maps.Close()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.c.o.Log.Debug("not every library could be looked at", "process", base.Process, "pid", pid, "err", err)
	}
	f.libs.note(pid, lookedAt{id: id, lowest: stat.size})
	// Libraries with one base name are told apart by numbers. Those that are observed keep theirs, wherever others are
	// loaded.
	described, names := false, map[string]bool{}
	observed := map[uint64]bool{}
	for _, o := range f.c.runtimesOf(pid, id.startTime) {
		names[o.info.Runtime] = true
		if o.library != nil {
			observed[o.library.Start] = true
		}
	}
	opened := 0
	for i := range mapped {
		m := &mapped[i]
		if m.Inode == id.exe.ino {
			continue
		}
		found, read := f.inspectLibrary(pid, m)
		if read {
			if opened++; opened >= newFilesALook {
				f.libs.lookAgain(pid)
				return
			}
		}
		if found == nil || found.bin == nil && found.err == nil {
			continue
		}
		if observed[m.Start] {
			continue
		}
		if !described {
			f.c.o.describe(&base)
			described = true
		}
		t := base
		name := cleantext.Name(path.Base(m.Path), cleantext.MaxName)
		t.Runtime = name
		for n := 2; names[t.Runtime]; n++ {
			t.Runtime = fmt.Sprintf("%s#%d", name, n)
		}
		names[t.Runtime] = true
		f.startLibrary(ctx, t, found, m)
	}
}

// note keeps what a process was like.
func (l *libraries) note(pid int32, at lookedAt) {
	if l.looked == nil {
		l.looked = map[int32]lookedAt{}
	}
	l.looked[pid] = at
}

// inspectLibrary reads a library's file, once for all processes that have mapped it. nil: it can't be said what it is.
func (f *finder) inspectLibrary(pid int32, m *goruntime.Mapped) (found *inspected, read bool) {
	name := m.PathFrom(f.c.o.ProcRoot, int(pid))
	info, err := os.Stat(name)
	if err != nil || identify(info).ino != m.Inode {
		// The file was replaced or deleted since; the kernel still leads to it, with more privileges.
		name = m.KernelPath(f.c.o.ProcRoot, int(pid))
		if info, err = os.Stat(name); err != nil {
			return nil, false
		}
	}
	if !info.Mode().IsRegular() {
		return nil, false
	}
	id := libraryID{identify(info), info.Size()}
	if found, ok := f.libs.files[id]; ok {
		return found, false
	}
	file, err := goruntime.OpenRegular(name)
	if err != nil {
		return nil, true
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || (libraryID{identify(info), info.Size()}) != id {
		return nil, true
	}
	if found = inspectFile(file); found == nil {
		found = &inspected{}
	}
	if f.libs.files == nil || len(f.libs.files) >= maxLibraries {
		f.libs.files = map[libraryID]*inspected{}
	}
	f.libs.files[id] = found
	return found, true
}

// startLibrary observes the runtime in a library that is not observed yet. One that has not started is looked at
// again with the next scan.
func (f *finder) startLibrary(ctx context.Context, t pstate.Target, found *inspected, m *goruntime.Mapped) {
	if ctx.Err() != nil {
		return
	}
	if found.err != nil {
		f.refuse(t, found.err)
		return
	}
	t.GoVersion, t.Module = cleantext.Name(
		found.bin.GoVersion,
		cleantext.MaxName,
	), cleantext.Name(
		found.bin.Module,
		cleantext.MaxPath,
	)
	pauses := f.c.heart.pauses.Load()
	o, err := f.c.observe(t, found.bin, m)
	switch {
	case errors.Is(err, goruntime.ErrExited), errors.Is(err, goruntime.ErrExeced):
	case err != nil:
		if errors.Is(err, goruntime.ErrNotStarted) || errors.Is(err, goruntime.ErrTorn) || waitsForRoom(err) {
			f.libs.lookAgain(t.PID)
		}
		f.refuse(t, err)
	default:
		if !f.list(o, pauses) {
			f.c.changed(t.PID)
		}
	}
}
