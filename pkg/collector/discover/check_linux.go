package discover

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// check looks at one process and starts or ends its observation. It says whether there is none any more.
func (f *Finder) check(ctx context.Context, pid int32) (gone bool) {
	if f.Only != 0 && pid != f.Only {
		return false
	}
	stat, err := f.Proc.Stat(pid)
	if ended(err) {
		f.drop(pid, 0) // what was said of it, too
		f.libs.forget(pid)
		return true
	}
	if err != nil || stat.State == 'Z' {
		return err == nil
	}
	id := procID{startTime: stat.StartTime}
	if stat.KernelThread() {
		// most processes of an idle host are kernel threads: they are not looked at again every second
		f.known[pid] = id
		return false
	}
	id.exe, err = identifyProgram(f.Proc.Path(pid, "exe"))
	if old, ok := f.known[pid]; ok && old == id {
		return false
	}
	if f.working[pid] != nil {
		f.again[pid] = true
		return false
	}
	f.drop(pid, stat.StartTime)
	f.known[pid] = id
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			f.Hidden.hide(pid, cleantext.Name(stat.Comm, cleantext.MaxName))
		}
		return ended(err)
	}
	f.leave(pstate.Key{PID: pid, StartTime: stat.StartTime}, f.starting[pid] == id || f.retried == pid)
	// Names first: a large program takes a while to read, and nobody should wait for those that are not asked for.
	target := f.named(pid, stat)
	if f.wanted(&target) {
		f.readProgram(ctx, target, id)
	}
	return false
}

// ended says whether an error of a file in /proc means that the process has gone.
func ended(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// readProgram lets a worker read a process's program, unless it is known not to be Go, or another process's is the same
// and is being read.
func (f *Finder) readProgram(ctx context.Context, target pstate.Target, id procID) {
	found, read := f.files.programs.get(id.exe)
	if read && found == nil {
		f.Refused.delete(target.Key)
		return
	}
	if others, ok := f.reading[id.exe]; ok && !read {
		f.reading[id.exe] = append(others, target.PID)
		return
	}
	if !read {
		f.reading[id.exe] = nil
	}
	l := &programLook{target: target, id: id}
	l.w = &work{pid: target.PID, uid: f.userOf(target.PID), do: func(*work) { l.look(&f.Options, f.files) }}
	f.work(ctx, f.reads, l.w, itsProgram, id, func() { f.programRead(ctx, l) }, func() {
		f.refuse(l.target, noAnswerFrom(l.w))
	})
}

// readOthers looks at the processes that waited for a program to be read.
func (f *Finder) readOthers(ctx context.Context, exe fileID) {
	others := f.reading[exe]
	delete(f.reading, exe)
	for _, pid := range others {
		if f.known[pid].exe == exe && f.working[pid] == nil {
			delete(f.known, pid)
			f.check(ctx, pid)
			f.checkLibraries(ctx, pid)
		}
	}
}

// programRead starts the observation of a process whose program has been read.
func (f *Finder) programRead(ctx context.Context, l *programLook) {
	defer f.readOthers(ctx, l.id.exe)
	pid, found := l.target.PID, l.found
	if f.known[pid] != l.id || f.working[pid] != nil {
		return // another process, or it has ended
	}
	if l.err != nil {
		delete(f.known, pid) // it executes something else at this moment: the next look decides
		if _, err := f.Proc.Stat(pid); ended(err) {
			f.Counts.Unread.Add(1)
		}
		return
	}
	if found == nil {
		f.Refused.delete(l.target.Key)
		f.checkLibraries(ctx, pid)
		return
	}
	if found.err != nil {
		if _, lasts := f.files.programs.get(l.id.exe); !lasts {
			f.unreadFor(pid, itsProgram, found.err)
		}
		f.refuse(l.described, found.err)
		f.checkLibraries(ctx, pid)
		return
	}
	t := l.described
	t.GoVersion = cleantext.Name(found.bin.GoVersion, cleantext.MaxName)
	t.Module = cleantext.Name(found.bin.Module, cleantext.MaxPath)
	f.start(ctx, l.w.uid, beginning{target: t, bin: found.bin})
}

// leave ends the observation of a process that has become another program.
// If it is only tried again, what refuses it is said until that has succeeded, and the runtimes in its libraries go on
// being observed.
func (f *Finder) leave(key pstate.Key, again bool) {
	for _, r := range f.runtimesOf(key.PID, key.StartTime) {
		if !again || r.Description().Key == key {
			f.observer.Forget(r)
		}
	}
	if again {
		return
	}
	f.Refused.deleteIf(func(t *pstate.Target) bool { return t.PID == key.PID && t.StartTime == key.StartTime })
	f.libs.forget(key.PID)
}

// refuse notes why a process, or a runtime in it, is not observed.
func (f *Finder) refuse(t pstate.Target, err error) {
	t.Source, t.Reason = pstate.SourceRefused, cleantext.Text(err.Error(), cleantext.MaxReason)
	before := f.Refused.set(t)
	fix := FixForRefused(err)
	if f.Fixes != nil {
		f.Fixes[t.Key] = fix
	}
	if t.Reason == before {
		return
	}
	f.Log.Info("not observed", "process", t.Process, "pid", t.PID, "reason", t.Reason, "fix", fix)
}

func (f *Finder) wanted(t *pstate.Target) bool { return f.choice.Load().admits(t) }
