package discover

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
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
	lookAtLeast = 12
)

// libraries remembers what processes were like when their libraries were looked at. Only the finder's goroutine touches
// it.
type libraries struct{ looked map[int32]lookedAt }

// lookedAt is what a process was like when its libraries were looked at.
type lookedAt struct {
	id     procID
	lowest uint64 // its smallest address space since then
	scans  int    // since then
	denied bool
	next   uint64 // address of the library at which the look was broken off; 0: it was not
}

// lookAgain makes the next check look, whatever the process's size.
func (l *libraries) lookAgain(pid int32) { delete(l.looked, pid) }

// forget drops what was known of a process.
func (l *libraries) forget(pid int32) { delete(l.looked, pid) }

// due says whether a process may have loaded a library since it was looked at last.
func (l *libraries) due(pid int32, id procID, size uint64) bool {
	was, ok := l.looked[pid]
	if !ok || was.id != id || was.next != 0 {
		return true
	}
	was.lowest = min(was.lowest, size)
	was.scans++
	l.looked[pid] = was
	return !was.denied && (size >= was.lowest+growthOfLibrary || was.scans >= lookAtLeast)
}

// checkLibraries looks for Go in the libraries of a process that check has looked at.
func (f *Finder) checkLibraries(ctx context.Context, pid int32) {
	id, ok := f.known[pid]
	if !ok || id.exe == (fileID{}) || f.working[pid] != nil {
		// it is being started, which comes first; it is not settled what it runs, it is a thread of the kernel, or it
		// may not be looked at
		return
	}
	if _, reading := f.reading[id.exe]; reading {
		return
	}
	stat, err := f.Proc.Stat(pid)
	if err != nil || stat.State == 'Z' || stat.StartTime != id.startTime || !f.libs.due(pid, id, stat.Size) {
		return
	}
	l := &libraryLook{base: f.named(pid, stat), id: id, size: stat.Size, most: lookMost}
	if was := f.libs.looked[pid]; was.id == id {
		l.from = was.next
	}
	if !f.wanted(&l.base) {
		return
	}
	l.w = &work{pid: pid, uid: f.userOf(pid), do: func(*work) { l.look(&f.Options, f.files) }}
	f.work(ctx, f.reads, l.w, itsLibraries, id, func() { f.librariesRead(ctx, l) }, func() {
		if t, name := l.base, l.w.file().name; name != "" {
			t.Runtime = cleantext.Name(path.Base(name), cleantext.MaxName)
			f.refuse(t, noAnswerFrom(l.w))
		} else if len(f.runtimesOf(pid, id.startTime)) == 0 {
			f.refuse(t, noAnswerFrom(l.w))
		}
		// The others are looked at without that one.
		f.libs.note(pid, lookedAt{id: id, lowest: l.size})
		f.libs.lookAgain(pid)
	})
}

// librariesRead starts the observation of the runtimes that were found in a process's libraries.
func (f *Finder) librariesRead(ctx context.Context, l *libraryLook) {
	pid := l.base.PID
	if f.known[pid] != l.id || f.working[pid] != nil {
		return
	}
	if l.err != nil {
		f.Log.Debug("not every library could be looked at", "process", l.base.Process, "pid", pid, "err", l.err)
		if errors.Is(l.err, refusal.ErrNoAnswer) {
			f.unreadFor(pid, itsLibraries, l.err)
		}
	}
	f.libs.note(pid, lookedAt{id: l.id, lowest: l.size, denied: l.denied, next: l.next})
	// Libraries with one base name are told apart by numbers. Those that are observed keep theirs, wherever others are
	// loaded.
	names, observed := map[string]bool{}, map[uint64]bool{}
	for _, r := range f.runtimesOf(pid, l.id.startTime) {
		names[r.Description().Runtime] = true
		if start := r.LibraryStart(); start != 0 {
			observed[start] = true
		}
	}
	f.acceptLibraries(l, names)
	var all []beginning
	for i := range l.found {
		found := &l.found[i]
		if observed[found.mapped.Start] {
			continue
		}
		t := l.described
		name := cleantext.Name(path.Base(found.mapped.Path), cleantext.MaxName)
		t.Runtime = name
		for n := 2; names[t.Runtime]; n++ {
			t.Runtime = fmt.Sprintf("%s#%d", name, n)
		}
		names[t.Runtime] = true
		if found.err != nil {
			if !found.lasts {
				f.unreadFor(pid, itsLibraries, found.err)
			}
			f.refuse(t, found.err)
			continue
		}
		t.GoVersion = cleantext.Name(found.bin.GoVersion, cleantext.MaxName)
		t.Module = cleantext.Name(found.bin.Module, cleantext.MaxPath)
		all = append(all, beginning{target: t, bin: found.bin, library: &found.mapped})
	}
	goOn := l.more && l.kept > 0
	if len(all) > 0 {
		all[len(all)-1].goOn = goOn
		f.start(ctx, l.w.uid, all...)
	} else if goOn {
		f.checkLibraries(ctx, pid)
	}
}

// acceptLibraries takes back what refused libraries of which there is nothing more to say.
func (f *Finder) acceptLibraries(l *libraryLook, observed map[string]bool) {
	if l.more || l.err != nil {
		return
	}
	still := map[string]bool{}
	for i := range l.found {
		still[cleantext.Name(path.Base(l.found[i].mapped.Path), cleantext.MaxName)] = true
	}
	f.Refused.deleteIf(func(t *pstate.Target) bool {
		name, _, _ := strings.Cut(t.Runtime, "#")
		return t.PID == l.base.PID && t.Runtime != "" && (!still[name] || observed[t.Runtime])
	})
}

// note keeps what a process was like.
func (l *libraries) note(pid int32, at lookedAt) {
	if l.looked == nil {
		l.looked = map[int32]lookedAt{}
	}
	l.looked[pid] = at
}
