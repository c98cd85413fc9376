package discover

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// nobody is an observer that observes nothing.
type nobody struct{ Observer }

func (nobody) HasEvents() bool     { return false }
func (nobody) Runtimes() []Runtime { return nil }

// finderIn is one for a mount of procfs.
func finderIn(root string) *Finder {
	o := Options{Proc: procfs.FS(root), Log: slog.New(slog.DiscardHandler)}
	return New(o, nobody{}, nil, nil)
}

// emptyFinder is one on a host without processes.
func emptyFinder(t *testing.T) *Finder {
	t.Helper()
	return finderIn(t.TempDir())
}

// hangs is a work for a process whose file does not answer until the test has ended.
func hangs(t *testing.T, pid int32) *work {
	t.Helper()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	return &work{pid: pid, do: func(w *work) {
		if w.enter(fileAt{device: "08:01", inode: uint64(pid)}) == nil {
			<-release
			w.leave()
		}
	}}
}

// TestWorkersAreGivenUpWhileMuchIsAsked: a worker that hangs is given up also where programs are executed all the time.
func TestWorkersAreGivenUpWhileMuchIsAsked(t *testing.T) {
	f := emptyFinder(t)
	f.reads = newWorkers(1, time.Millisecond)
	gaveUp := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	f.work(ctx, f.reads, hangs(t, 1), itsLibraries, procID{}, func() {}, func() { close(gaveUp) })
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	defer running.Wait()
	defer cancel()
	for timeout := time.After(20 * time.Second); ; {
		select {
		case f.asked <- question{pid: 2}:
			time.Sleep(time.Millisecond)
		case <-gaveUp:
			return
		case <-timeout:
			t.Fatal("it is not given up")
		}
	}
}

// TestNobodyWaitsForAReaderThatIsGivenUp: the processes that run a program whose file does not answer are looked at
// also if the one it was read for has ended meanwhile.
func TestNobodyWaitsForAReaderThatIsGivenUp(t *testing.T) {
	f, exe := emptyFinder(t), fileID{ino: 7}
	f.reads = newWorkers(1, time.Millisecond)
	f.known[2] = procID{startTime: 2, exe: exe}
	f.reading[exe] = []int32{2}
	f.work(t.Context(), f.reads, hangs(t, 1), itsProgram, procID{startTime: 1, exe: exe}, func() {}, func() {
		t.Error("a process that has ended is listed")
	})
	f.waitForWorkers(t.Context())
	if _, waits := f.reading[exe]; waits {
		t.Error("the others wait for a reader that was given up")
	}
	if _, known := f.known[2]; known {
		t.Error("a process that waited was not looked at")
	}
}

// TestDeviceOfAProgram: it is written as in /proc/<pid>/maps.
func TestDeviceOfAProgram(t *testing.T) {
	for want, dev := range map[string]uint64{
		"08:01": unix.Mkdev(8, 1), "103:10": unix.Mkdev(259, 16), "00:2f": unix.Mkdev(0, 47),
	} {
		l := &programLook{id: procID{exe: fileID{dev: dev, ino: 5}}}
		if got := l.fileAt(); got != (fileAt{device: want, inode: 5}) {
			t.Errorf("%+v, not %s", got, want)
		}
	}
}

// TestLibrariesNotOpenedBecauseOfOthers: a process is looked at again whose libraries lie in a file system of which
// other files do not answer. The libraries are not listed: each process may have thousands.
func TestLibrariesNotOpenedBecauseOfOthers(t *testing.T) {
	f := finderIn("/proc")
	pid := int32(os.Getpid())
	id := procID{startTime: 1, exe: fileID{ino: 1}} // so that the file of the test is one of its libraries
	f.known[pid] = id
	l := &libraryLook{base: pstate.Target{Key: pstate.Key{PID: pid, StartTime: 1}}, id: id, w: &work{workers: f.reads}}
	mapped, err := l.mappedFiles(&f.Options)
	if err != nil || len(mapped) == 0 {
		t.Fatal(mapped, err)
	}
	for _, m := range mapped {
		for i := range mostHungOfDevice {
			f.reads.hung[&work{at: fileAt{device: m.Device, inode: uint64(i + 1)}}] = true
		}
	}
	l.look(&f.Options, f.files)
	f.librariesRead(t.Context(), l)
	if len(l.found)+len(f.Refused.All()) > 0 || !errors.Is(l.err, refusal.ErrNoAnswer) {
		t.Errorf("found %+v, refused %+v, error %v", l.found, f.Refused.All(), l.err)
	}
	if again, ok := f.unanswered[pid]; again != (unreadPart{part: itsLibraries}) || !ok {
		t.Errorf("it is looked at again: %+v", again)
	}
}

// TestALookAtLibrariesGoesOn: where each library takes long, a process's are looked at one after the other, not the
// same ones each time.
func TestALookAtLibrariesGoesOn(t *testing.T) {
	const libraries = 3
	for i := range libraries {
		file, err := os.Create(filepath.Join(t.TempDir(), strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := file.Truncate(4096); err != nil {
			t.Fatal(err)
		}
		code, err := unix.Mmap(int(file.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
		if err != nil {
			t.Skip("no file can be mapped as code here: ", err)
		}
		defer func() { _ = unix.Munmap(code) }()
	}
	f := finderIn("/proc")
	pid := int32(os.Getpid())
	id := procID{startTime: 1, exe: fileID{ino: 1}}
	f.known[pid] = id
	looked := map[uint64]bool{}
	for range libraries {
		l := &libraryLook{base: pstate.Target{Key: pstate.Key{PID: pid}}, id: id, w: &work{workers: f.reads}}
		l.from = f.libs.looked[pid].next
		l.look(&f.Options, f.files)
		f.libs.note(pid, lookedAt{id: id, next: l.next})
		if !l.more || !f.libs.due(pid, id, 0) {
			t.Fatal("a look was not broken off")
		}
		looked[l.next] = true
	}
	if len(looked) != libraries || len(f.files.libraries.said) != libraries {
		t.Errorf("%d looks came to %d places and read %d files", libraries, len(looked), len(f.files.libraries.said))
	}
}
