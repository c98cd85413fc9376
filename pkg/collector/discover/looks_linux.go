package discover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// What a worker reads of one process: its program, or the libraries that it has loaded. It does not touch what is the
// finder's.

const (
	newFilesALook = 256 // libraries opened for one look at one process; the next look goes on
	// after which a look at libraries is broken off, between two of them, so that it is somebody else's turn
	lookMost = 250 * time.Millisecond
)

// programLook is a look at the program of a process, and what came of it.
type programLook struct {
	w      *work
	target pstate.Target
	id     procID

	described pstate.Target // target with what else /proc says; filled in for Go only
	found     *inspected    // nil: it isn't Go
	err       error         // errChanged
}

// look does it.
func (l *programLook) look(o *Options, files *files) {
	exe := o.Proc.Path(l.target.PID, "exe")
	if l.found, l.err = files.readProgram(l.w, l.id.exe, exe, l.fileAt()); l.found == nil {
		return
	}
	l.described = l.w.describe(o, l.target)
}

// describe fills in what else /proc says. A command line is read from the process's memory, which may lie in a file
// that does not answer.
func (w *work) describe(o *Options, t pstate.Target) pstate.Target {
	if w.enter(fileAt{}) == nil {
		o.describe(&t)
		w.leave()
	}
	return t
}

// fileAt names the program's file. The device is written as in /proc/<pid>/maps, as for libraries, but it is the one
// that the kernel has for the file: a FUSE server chooses the inode numbers in maps, also those of another file system.
func (l *programLook) fileAt() fileAt {
	exe := l.id.exe
	device := fmt.Sprintf("%02x:%02x", unix.Major(exe.dev), unix.Minor(exe.dev))
	return fileAt{device: device, inode: exe.ino, name: l.target.Exe}
}

// libraryLook is a look at the libraries that a process has loaded, and what came of it.
type libraryLook struct {
	w    *work
	base pstate.Target
	id   procID
	size uint64 // of its address space when it began
	from uint64 // address of the library to begin with; those before it come last
	most time.Duration

	described pstate.Target // base with what else /proc says; filled in if found is not empty
	found     []foundLibrary
	more      bool   // there are others, which were not looked at
	next      uint64 // the first of them
	kept      int    // files of which it will not be asked again what they are
	denied    bool
	err       error // why not all of them can be looked at
}

// foundLibrary is one that is Go, or of which that can't be said.
type foundLibrary struct {
	mapped process.Mapped
	*inspected
	lasts bool // it need not be looked at again
}

// look does it.
func (l *libraryLook) look(o *Options, files *files) {
	mapped, err := l.mappedFiles(o)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.err, l.denied = err, errors.Is(err, fs.ErrPermission)
	}
	begun, opened, first := time.Now(), 0, 0
	for first < len(mapped) && mapped[first].Start < l.from {
		first++
	}
	for i := range mapped {
		m := &mapped[(first+i)%len(mapped)]
		if m.Inode == l.id.exe.ino {
			continue
		}
		if i > 0 && (opened >= newFilesALook || time.Since(begun) > l.most) {
			l.more, l.next = true, m.Start
			break
		}
		found, read, lasts := l.inspect(o, files, m)
		if read {
			opened++
		}
		if found != nil && becauseOfOthers(found.err) {
			l.err = found.err // said once: there may be thousands
			continue
		}
		if found != nil && (found.bin != nil || found.err != nil) {
			l.found = append(l.found, foundLibrary{*m, found, lasts})
		}
	}
	if len(l.found) > 0 {
		l.described = l.w.describe(o, l.base)
	}
}

func (l *libraryLook) mappedFiles(o *Options) ([]process.Mapped, error) {
	if err := l.w.enter(fileAt{}); err != nil {
		return nil, err
	}
	defer l.w.leave()
	maps, err := os.Open(o.Proc.Path(l.base.PID, "maps"))
	if err != nil {
		return nil, err
	}
	defer maps.Close()
	return process.MappedFiles(maps)
}

// inspect reads a library's file, once for all processes that have mapped it. nil: nothing is to be said of it.
func (l *libraryLook) inspect(o *Options, files *files,
	m *process.Mapped) (found *inspected, read, lasts bool) {
	at := fileAt{device: m.Device, inode: m.Inode, name: m.Path}
	if err := l.w.enter(at); err != nil {
		return &inspected{err: err}, false, false
	}
	defer l.w.leave()
	pid := int(l.base.PID)
	name := m.PathFrom(string(o.Proc), pid)
	info, err := os.Stat(name)
	if err != nil || identify(info).ino != m.Inode {
		// The file was replaced or deleted since; the kernel still leads to it, with more privileges.
		name = m.KernelPath(string(o.Proc), pid)
		if info, err = os.Stat(name); err != nil {
			return l.replaced(m, err), false, true
		}
	}
	if !info.Mode().IsRegular() {
		return nil, false, true
	}
	id := libraryID{identify(info), info.Size()}
	if found, ok := files.libraries.get(id); ok {
		return found, false, true
	}
	file, err := process.OpenRegular(name)
	if err != nil {
		return nil, true, false
	}
	defer l.w.close(file, at)
	if info, err := file.Stat(); err != nil || (libraryID{identify(info), info.Size()}) != id {
		return nil, true, false
	}
	found, lasts = inspectFile(l.w, file, at)
	if found == nil {
		found = &inspected{}
	}
	if lasts {
		files.libraries.keep(id, found)
		l.kept++
	}
	return found, true, lasts
}

// replaced is what is said of a library whose file can't be had any more: something only if its memory says that it is
// Go. After each update of a system many processes have others.
func (l *libraryLook) replaced(m *process.Mapped, err error) *inspected {
	if errors.Is(err, fs.ErrNotExist) || !process.MappedGo(int(l.base.PID), *m) {
		return nil // it has been unmapped, or the process has ended
	}
	return &inspected{err: refusal.New(refusal.Replaced, err, "the file of the library was replaced or "+
		"deleted since the process loaded it, and the kernel leads to the one that is loaded only with more "+
		"privileges")}
}
