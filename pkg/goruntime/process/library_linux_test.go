package process

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// cHost builds testdata/host, with the Go archive where it is given.
func cHost(t *testing.T, archive string) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "chost")
	args := []string{"-o", exe, filepath.Join(fixtures.Source("host"), "host.c")}
	if archive != "" {
		args = append(args, "-DARCHIVE", archive)
	}
	if out, err := exec.Command("gcc", append(args, "-ldl", "-lpthread")...).CombinedOutput(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip("gcc is missing")
		}
		t.Fatalf("%v\n%s", err, out)
	}
	return exe
}

// startHost runs a program of another language until it says that it is ready, and gives its pid and what it said
// before.
func startHost(t *testing.T, command string, args ...string) (pid int, said []string) {
	t.Helper()
	cmd := exec.Command(command, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return cmd.Process.Pid, said
		}
		said = append(said, lines.Text())
	}
	t.Fatalf("%s ended before it was ready", command)
	return 0, nil
}

// mappedAs finds what a process has mapped of a file.
func mappedAs(t *testing.T, pid int, path string) Mapped {
	t.Helper()
	maps, err := os.Open("/proc/" + strconv.Itoa(pid) + "/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	files, err := MappedFiles(maps)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Path == path {
			return f
		}
	}
	t.Fatalf("%s is not among %d mapped files", path, len(files))
	return Mapped{}
}

// openLibrary opens the runtime of a library and waits until it has started.
func openLibrary(t *testing.T, pid int, path string) *Process {
	t.Helper()
	p, err := OpenLibrary(pid, inspectFile(t, path), mappedAs(t, pid, path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	validateSoon(t, p)
	return p
}

func validateSoon(t *testing.T, p *Process) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := p.Validate()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// busyPs counts the Ps that run something, in the one of several looks in which most did.
func busyPs(t *testing.T, p *Process) (most int) {
	t.Helper()
	var s Snapshot
	for range 20 {
		if err := p.Snapshot(&s, true); err != nil {
			t.Fatal(err)
		}
		busy := 0
		for i := range s.Ps {
			if s.Ps[i].State == pstate.Running {
				busy++
			}
		}
		most = max(most, busy)
		time.Sleep(10 * time.Millisecond)
	}
	return most
}

// TestLibraries: Go in a shared library is read like a program, in C and in Python, with one runtime and with two, with
// symbols and without.
func TestLibraries(t *testing.T) {
	plain := fixtures.Program(t, fixtures.Build{Source: "library", Cgo: true, Flags: []string{"-buildmode=c-shared"}})
	stripped := fixtures.Program(t,
		fixtures.Build{Source: "library", Cgo: true, Flags: []string{"-buildmode=c-shared", "-ldflags=-s -w"}})
	host := cHost(t, "")
	for name, lib := range map[string]string{"symbols": plain, "stripped": stripped} {
		t.Run(name, func(t *testing.T) {
			pid, _ := startHost(t, host, lib, "1")
			p := openLibrary(t, pid, lib)
			if n := busyPs(t, p); n == 0 {
				t.Error("no P runs, though a goroutine keeps one busy")
			}
			checkThreadPointer(t, p)
			f, err := p.OpenExecutable()
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			if err := p.Alive(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("two", func(t *testing.T) {
		pid, _ := startHost(t, host, plain, "0", stripped, "1")
		idle, busy := openLibrary(t, pid, plain), openLibrary(t, pid, stripped)
		if busyPs(t, busy) == 0 {
			t.Error("no P of the busy runtime runs")
		}
		var s Snapshot
		if err := idle.Snapshot(&s, true); err != nil {
			t.Fatal(err)
		}
		for i := range s.Ps {
			if s.Ps[i].State == pstate.Running {
				t.Errorf("P %d of the idle runtime runs", i)
			}
		}
		checkThreadPointer(t, busy)
	})
	t.Run("python", func(t *testing.T) {
		python, err := exec.LookPath("python3")
		if err != nil {
			t.Skip("python3 is missing")
		}
		script := "import ctypes, sys, time\nctypes.CDLL(sys.argv[1]).Work(1, 1)\nprint('ready', " +
			"flush=True)\ntime.sleep(3600)\n"
		pid, _ := startHost(t, python, "-c", script, plain)
		if busyPs(t, openLibrary(t, pid, plain)) == 0 {
			t.Error("no P runs, though a goroutine keeps one busy")
		}
	})
}

// checkThreadPointer checks that the offset of G's slot in a library is the one the loader chose: it leads from each of
// the runtime's threads to its M.
func checkThreadPointer(t *testing.T, p *Process) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		return
	}
	off, ok := p.TLSG()
	if !ok {
		t.Fatal("the offset of G's slot is not known")
	}
	s := snapshot(t, p, true)
	checked := 0
	for i := range s.Ms {
		m := &s.Ms[i]
		if m.TID == 0 || int(m.TID) == p.pid {
			continue // the host's own thread has an M only while it calls Go
		}
		fs, err := fsBase(int(m.TID))
		if err != nil {
			t.Fatal(err)
		}
		var word [8]byte
		if err := p.ReadMemory(uint64(int64(fs)+off), word[:]); err != nil {
			t.Fatalf("thread %d: %v", m.TID, err)
		}
		if err := p.ReadMemory(u64(word[:], 0)+uint64(p.bin.Layout.G.M), word[:]); err != nil {
			t.Fatalf("thread %d: %v", m.TID, err)
		}
		if got := u64(word[:], 0); got != m.Addr {
			t.Errorf("thread %d: m at %#x by the thread pointer, %#x by the list", m.TID, got, m.Addr)
		}
		checked++
	}
	if checked < 2 {
		t.Errorf("only %d threads checked", checked)
	}
}

// TestArchive: Go linked into a C program, called from threads of C.
func TestArchive(t *testing.T) {
	archive := fixtures.Program(t,
		fixtures.Build{Source: "library", Cgo: true, Flags: []string{"-buildmode=c-archive"}})
	exe := cHost(t, archive)
	pid, _ := startHost(t, exe, "", "1", "", "0")
	p, err := Open(pid, inspectFile(t, exe))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	validateSoon(t, p)
	if busyPs(t, p) == 0 {
		t.Error("no P runs, though a goroutine keeps one busy")
	}
}

// TestForked: a copy of a process by fork alone has the memory of a runtime, but none of its threads.
func TestForked(t *testing.T) {
	lib := fixtures.Program(t, fixtures.Build{Source: "library", Cgo: true, Flags: []string{"-buildmode=c-shared"}})
	_, said := startHost(t, cHost(t, ""), lib, "1", "fork")
	if len(said) != 1 {
		t.Fatalf("the parent said %q", said)
	}
	child, err := strconv.Atoi(said[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if parent, err := os.FindProcess(child); err == nil {
			_ = parent.Kill()
		}
	})
	p, err := OpenLibrary(child, inspectFile(t, lib), mappedAs(t, child, lib))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Validate(); !errors.Is(err, &refusal.Error{Reason: refusal.Forked}) {
		t.Errorf("the forked child: %v", err)
	} else if !strings.Contains(err.Error(), "forked") {
		t.Errorf("the reason does not say it: %v", err)
	}
}
