package goruntime

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// GoInfo is what a Go executable's build information says.
type GoInfo struct {
	Version string // "go1.26.8"
	Module  string // path of the main module
}

// Found is a running Go process.
type Found struct {
	GoInfo
	PID       int
	StartTime uint64 // field 22 of /proc/<pid>/stat
	ExePath   string // path for opening the executable: /proc/<pid>/exe, which works across mount namespaces
}

// Finder tells Go executables from others and inspects them, each file once. The zero value is ready; it is safe for concurrent use.
type Finder struct {
	mu    sync.Mutex
	files map[fileVersion]*fileFacts
}

// fileVersion identifies the contents of a file as far as that is possible without reading them.
type fileVersion struct {
	fileID
	mtime, ctime unix.Timespec
	size         int64
}

// fileFacts is what is known of a file.
type fileFacts struct {
	once  sync.Once
	info  GoInfo
	notGo error

	inspect sync.Once
	bin     *Binary
	refused error
}

// maxFiles bounds the cache; a host runs far fewer different executables.
const maxFiles = 4096

// IsGo reads the build information of an executable, usually named /proc/<pid>/exe. The error is [ErrNotGo] for other programs.
func (f *Finder) IsGo(exePath string) (GoInfo, error) {
	facts, err := f.facts(exePath)
	if err != nil {
		return GoInfo{}, err
	}
	facts.once.Do(func() {
		// The first caller's file is the one judged; others wait for the answer.
		file, err := os.Open(exePath)
		if err != nil {
			facts.notGo = refuse(ReasonUnreadable, err, "the program's file cannot be opened")
			f.forget(facts)
			return
		}
		defer file.Close()
		facts.info, facts.notGo = readGoInfo(file)
	})
	return facts.info, facts.notGo
}

// Inspect is the package's Inspect for an executable named by path, usually /proc/<pid>/exe. The Binary is shared: do not modify it.
func (f *Finder) Inspect(exePath string) (*Binary, error) {
	facts, err := f.facts(exePath)
	if err != nil {
		return nil, err
	}
	facts.inspect.Do(func() {
		file, err := os.Open(exePath)
		if err != nil {
			facts.refused = refuse(ReasonUnreadable, err, "the program's file cannot be opened")
			f.forget(facts)
			return
		}
		defer file.Close()
		facts.bin, facts.refused = Inspect(file)
		if errors.Is(facts.refused, &RefusedError{Reason: ReasonUnreadable}) {
			f.forget(facts) // a read error may pass
		}
	})
	return facts.bin, facts.refused
}

// Find lists the Go processes under procRoot, normally "/proc". Processes that vanish meanwhile, or may not be looked at, are left out; denied
// counts the latter.
func (f *Finder) Find(procRoot string) (found []Found, denied int, err error) {
	dir, err := os.Open(procRoot)
	if err != nil {
		return nil, 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		exe := filepath.Join(procRoot, name, "exe")
		info, err := f.IsGo(exe)
		if err != nil {
			if errors.Is(err, fs.ErrPermission) {
				denied++
			}
			continue
		}
		start, err := startTimeIn(procRoot, pid)
		if err != nil {
			continue
		}
		found = append(found, Found{GoInfo: info, PID: pid, StartTime: start, ExePath: exe})
	}
	return found, denied, nil
}

// facts finds the entry of a file's present contents.
func (f *Finder) facts(path string) (*fileFacts, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, refuse(ReasonUnreadable, err, "the program's file cannot be found")
	}
	key := fileVersion{fileID{uint64(st.Dev), st.Ino}, st.Mtim, st.Ctim, st.Size}
	f.mu.Lock()
	defer f.mu.Unlock()
	if facts, ok := f.files[key]; ok {
		return facts, nil
	}
	if f.files == nil || len(f.files) >= maxFiles {
		// Starting over is simpler than choosing victims, and happens once in thousands of different programs.
		f.files = make(map[fileVersion]*fileFacts)
	}
	facts := new(fileFacts)
	f.files[key] = facts
	return facts, nil
}

// forget drops an entry whose file could not be opened, which may be different the next time.
func (f *Finder) forget(facts *fileFacts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, other := range f.files {
		if other == facts {
			delete(f.files, key)
			return
		}
	}
}

// readGoInfo reads the build information alone. A program with sections but without .go.buildinfo is not Go; looking for the information
// elsewhere would mean to read all its data.
func readGoInfo(r io.ReaderAt) (info GoInfo, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = refuse(ReasonMalformed, fmt.Errorf("%v", p), "the program's file is malformed")
		}
	}()
	im, err := openImage(r)
	if err != nil {
		return GoInfo{}, refuse(ReasonNotGo, err, "the file is not a Go program")
	}
	if len(im.f.Sections) > 1 && im.f.Section(".go.buildinfo") == nil {
		return GoInfo{}, ErrNotGo
	}
	bi, err := readBuildInfo(r)
	if err != nil {
		return GoInfo{}, err
	}
	return GoInfo{Version: bi.GoVersion, Module: bi.Main.Path}, nil
}
