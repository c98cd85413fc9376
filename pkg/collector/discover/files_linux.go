package discover

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// What the files of programs and libraries say. Each is read once, for all processes that have it, by a worker.

const (
	maxBinaries  = 512  // programs remembered
	maxLibraries = 4096 // libraries remembered
	// maxRead is how many bytes reading one file may take; a large program with debugging information takes some 10 MB.
	maxRead    = 512 << 20
	readWithin = 10 * time.Second
)

// fileID tells a program's file from another one.
type fileID struct {
	dev, ino uint64
	mtime    int64
}

// libraryID tells the contents of a library from others, as far as that is possible without reading them.
type libraryID struct {
	fileID
	size int64
}

// inspected is what a file said; one of the two is set, or neither for one that isn't Go.
type inspected struct {
	bin *goruntime.Binary
	err error
}

// files remembers what files said. Workers use it at the same time.
type files struct {
	programs  memory[fileID] // nil for a program that isn't Go
	libraries memory[libraryID]
}

func newFiles() *files {
	return &files{programs: memory[fileID]{most: maxBinaries}, libraries: memory[libraryID]{most: maxLibraries}}
}

// memory keeps what files of one kind said, most of them at most.
type memory[ID comparable] struct {
	most int

	mu   sync.Mutex
	said map[ID]*inspected
}

func (m *memory[ID]) get(id ID) (found *inspected, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok = m.said[id]
	return found, ok
}

func (m *memory[ID]) keep(id ID, found *inspected) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.said == nil || len(m.said) >= m.most {
		m.said = map[ID]*inspected{}
	}
	m.said[id] = found
}

// identifyProgram says which file a process executes, without a word to the file system: one that does not answer would
// keep the caller (AT_STATX_DONT_SYNC, statx(2)).
func identifyProgram(exe string) (id fileID, err error) {
	var st unix.Statx_t
	const want = unix.STATX_INO | unix.STATX_MTIME
	if err := unix.Statx(unix.AT_FDCWD, exe, unix.AT_STATX_DONT_SYNC, want, &st); err != nil {
		return id, &fs.PathError{Op: "statx", Path: exe, Err: err}
	}
	return fileID{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino,
		mtime: st.Mtime.Sec*int64(time.Second) + int64(st.Mtime.Nsec)}, nil
}

func identify(info fs.FileInfo) fileID {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}
	}
	return fileID{dev: st.Dev, ino: st.Ino, mtime: info.ModTime().UnixNano()}
}

// errChanged says that a path has come to mean another file.
var errChanged = errors.New("the process executes another program")

// readProgram reads the program that a process executes. nil: it isn't Go. The path is one through a process, which may
// lead to another file than a moment ago: then it is errChanged, and nothing is remembered under the wrong name.
func (f *files) readProgram(w *work, id fileID, path string, at fileAt) (*inspected, error) {
	if found, ok := f.programs.get(id); ok {
		return found, nil
	}
	if err := w.enter(at); err != nil {
		return &inspected{err: err}, nil
	}
	defer w.leave()
	file, err := process.OpenRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errChanged // it has ended
	}
	if err != nil {
		return &inspected{err: fmt.Errorf("its program can't be read: %w", err)}, nil
	}
	defer w.close(file, at)
	info, err := file.Stat()
	if err != nil {
		return nil, errChanged
	}
	now := identify(info)
	if now.dev != id.dev || now.ino != id.ino {
		return nil, errChanged
	}
	found, lasts := inspectFile(w, file, at)
	if lasts {
		// The time may have been out of date when the file system was not asked for it.
		f.programs.keep(id, found)
		f.programs.keep(now, found)
	}
	return found, nil
}

// inspectFile says what is in a file. lasts is false if that may be another time's answer.
func inspectFile(w *work, file *os.File, at fileAt) (found *inspected, lasts bool) {
	r := &boundedFile{file: file, w: w, at: at, bytes: maxRead, time: readWithin}
	bin, err := goruntime.Inspect(r)
	if r.failed != nil {
		return &inspected{err: r.failed}, r.lasts
	}
	if errors.Is(err, refusal.ErrNotGo) {
		return nil, true
	}
	return &inspected{bin: bin, err: err}, true
}

// boundedFile is a file of which not too much is read, and for not too long. The first error of a read is kept: what
// reads it may take a missing piece for a sign that the file isn't Go.
type boundedFile struct {
	file   io.ReaderAt
	w      *work
	at     fileAt
	bytes  int64         // that may still be read
	time   time.Duration // likewise; only the reads count, since a busy machine is not the file's fault
	failed error
	lasts  bool // it would fail so each time
}

// ReadAt implements io.ReaderAt.
func (b *boundedFile) ReadAt(p []byte, off int64) (int, error) {
	if b.failed != nil {
		return 0, b.failed
	}
	if b.bytes -= int64(len(p)); b.bytes < 0 {
		b.lasts = true
		b.failed = refusal.New(refusal.TooMuch, nil, "its file makes whoever looks for Go in it read more "+
			"than %d MiB", int64(maxRead)>>20)
		return 0, b.failed
	}
	if err := b.w.enter(b.at); err != nil {
		b.failed = err
		return 0, err
	}
	begun := time.Now()
	n, err := b.file.ReadAt(p, off)
	b.w.leave()
	if b.time -= time.Since(begun); b.time < 0 {
		b.failed = refusal.New(refusal.TooMuch, nil, "reading its file took longer than %v: whether it is Go "+
			"is not known", readWithin)
		return n, b.failed
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed = refusal.New(refusal.Unreadable, err,
			"its file can't be read, and whether it is Go is not known")
	}
	return n, err
}
