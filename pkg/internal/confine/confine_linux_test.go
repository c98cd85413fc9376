package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// What is given up can't be had back, so each test runs in a process of its own: the test binary, told by this variable
// what to be.
const asConfined = "PSCOPE_TEST_CONFINED"

// attempts are what the confined process tried, each with the error it met, "" if it went well.
type attempts struct {
	Measures []Measure
	Tried    map[string]string
}

func TestMain(m *testing.M) {
	if part := os.Getenv(asConfined); part != "" {
		if err := json.NewEncoder(os.Stdout).Encode(attempt(part, os.Args[1])); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// attempt confines this process and tries things, each also on a thread that was there before.
func attempt(part, dir string) attempts {
	work, done := make(chan func()), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
			done <- struct{}{}
		}
	}()
	ready := make(chan struct{})
	go func() { work <- func() { close(ready) }; <-done }()
	<-ready

	inside, outside := filepath.Join(dir, "inside"), filepath.Join(dir, "outside")
	a := attempts{Tried: map[string]string{}}
	switch part {
	case "agent":
		a.Measures = Agent(cap.SYS_PTRACE)
	case "history":
		a.Measures = History(inside)
	}
	var mu sync.Mutex
	try := func(what string, f func() error) {
		for _, thread := range []string{"", ", other thread"} {
			said := func() {
				mu.Lock()
				defer mu.Unlock()
				a.Tried[what+thread] = ""
				if err := f(); err != nil {
					a.Tried[what+thread] = err.Error()
				}
			}
			if thread == "" {
				said()
				continue
			}
			work <- said
			<-done
		}
	}
	try("mount", func() error { return unix.Mount("none", dir, "tmpfs", 0, "") })
	try("trace another", func() error { return unix.PtraceAttach(os.Getppid()) })
	try("write another's memory", func() error { return writeMemory(os.Getppid()) })
	try("set the clock", func() error { return unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: -1}) })
	try("new user namespace", func() error { return unix.Unshare(unix.CLONE_FILES | unix.CLONE_NEWNET) })
	try("start a program", func() error {
		cmd := exec.Command("/proc/self/exe", "-test.list", "^$")
		cmd.Env = []string{} // not this one again
		return cmd.Run()
	})
	try("read memory", func() error {
		var b [1]byte
		local, remote := []unix.Iovec{
			{Base: &b[0], Len: 1},
		}, []unix.RemoteIovec{
			{Base: uintptr(unsafe.Pointer(&b[0])), Len: 1},
		}
		_, err := unix.ProcessVMReadv(os.Getpid(), local, remote, 0)
		return err
	})
	try("listen", func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			err = l.Close()
		}
		return err
	})
	try("write inside", func() error { return writeAndMove(inside) })
	try("write outside", func() error { return os.WriteFile(filepath.Join(outside, "new"), nil, 0o600) })
	try("read outside", func() error { _, err := os.ReadFile(filepath.Join(outside, "file")); return err })
	try("own figures", func() error { _, err := os.ReadFile("/proc/self/statm"); return err })
	try("capabilities left", func() error {
		for v := cap.Value(0); v < cap.MaxBits(); v++ {
			if held, _ := cap.GetProc().GetFlag(cap.Permitted, v); held {
				return errors.New(v.String())
			}
		}
		return nil
	})
	return a
}

// writeAndMove does with files what the database does.
func writeAndMove(dir string) error {
	from, to := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	f, err := os.Create(filepath.Join(from, "f"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString("text"); err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(2), f.Sync()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(to, "f")); err != nil {
		return err
	}
	return os.Remove(filepath.Join(to, "f"))
}

func writeMemory(pid int) error {
	var b [1]byte
	local := unix.Iovec{Base: &b[0], Len: 0}
	remote := unix.RemoteIovec{}
	_, _, e := unix.Syscall6(
		unix.SYS_PROCESS_VM_WRITEV,
		uintptr(pid),
		uintptr(unsafe.Pointer(&local)),
		1,
		uintptr(unsafe.Pointer(&remote)),
		1,
		0,
	)
	if e != 0 {
		return e
	}
	return nil
}

// confined runs the test binary as a part.
func confined(t *testing.T, part string) attempts {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"inside/a", "inside/b", "outside"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "outside", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, dir)
	cmd.Env = append(os.Environ(), asConfined+"="+part)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v; it said %s", err, out)
	}
	var a attempts
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, m := range a.Measures {
		if m.Part != part {
			t.Errorf("%s is a measure of %q", m.Name, m.Part)
		}
		if !m.Holds {
			t.Errorf("%s does not hold: %s", m.Name, m.Detail)
		}
	}
	return a
}

func TestPartsGiveUpWhatTheyDoNotNeed(t *testing.T) {
	const fine = ""
	forbidden, closed := unix.EPERM.Error(), unix.EACCES.Error()
	for _, c := range []struct {
		what           string
		agent, history string
	}{
		{"mount", forbidden, forbidden},
		{"trace another", forbidden, forbidden},
		{"write another's memory", forbidden, forbidden},
		{"set the clock", forbidden, forbidden},
		{"new user namespace", forbidden, forbidden},
		{"start a program", fine, forbidden},
		{"read memory", fine, forbidden},
		{"listen", fine, forbidden},
		{"write inside", fine, fine},
		{"write outside", fine, closed},
		{"read outside", fine, closed},
		{"own figures", fine, fine},
	} {
		for part, want := range map[string]string{"agent": c.agent, "history": c.history} {
			for _, thread := range []string{"", ", other thread"} {
				t.Run(part+"/"+c.what+thread, func(t *testing.T) {
					got, tried := attemptsOf(t, part).Tried[c.what+thread]
					if !tried || (want == fine) != (got == fine) ||
						(want == forbidden || want == closed) && !strings.Contains(got, forbidden) &&
							!strings.Contains(got, closed) {
						t.Errorf("got %q, want %q", got, want)
					}
				})
			}
		}
	}
	if got := attemptsOf(t, "history").Tried["capabilities left"]; got != fine {
		t.Errorf("the history keeps %s", got)
	}
	keeps := fine
	if held, _ := cap.GetProc().GetFlag(cap.Permitted, cap.SYS_PTRACE); held {
		keeps = cap.SYS_PTRACE.String()
	}
	if got := attemptsOf(t, "agent").Tried["capabilities left"]; got != keeps {
		t.Errorf("the agent keeps %q first, want %q", got, keeps)
	}
}

// attemptsOf runs each part once.
func attemptsOf(t *testing.T, part string) attempts {
	t.Helper()
	if _, ok := once[part]; !ok {
		once[part] = confined(t, part)
	}
	return once[part]
}

var once = map[string]attempts{}

func TestWithoutADirectoryOnlyFilesStayOpen(t *testing.T) {
	m := filesAndNetwork(nil)
	if m.Holds || !strings.Contains(m.Detail, "directory") {
		t.Errorf("%+v", m)
	}
	if got := fmt.Sprint(m.failed("do it", unix.ENOSYS).Detail); !strings.Contains(got, "this kernel") {
		t.Error(got)
	}
}

// What the library has no number for is left out of the filter without a word, so each name must be known on the
// architectures that have the call.
func TestEveryCallHasANumber(t *testing.T) {
	// Calls that arm64 never had: others do the same there (include/uapi/asm-generic/unistd.h of Linux).
	old := strings.Fields(
		`access arch_prctl chmod chown creat dup2 epoll_create epoll_wait fork getdents getpgrp inotify_init lchown link lstat mkdir newfstatat open
		pause pipe poll readlink rename rmdir select stat symlink time unlink vfork`,
	)
	for name, missing := range map[string][]string{"x86_64": {"fstatat"}, "aarch64": old} {
		info, err := arch.GetInfo(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range slices.Concat(ordinaryCalls, socketCalls, observingCalls) {
			if _, ok := info.SyscallNames[call]; !ok && !slices.Contains(missing, call) {
				t.Errorf("%s is not known on %s", call, name)
			}
		}
	}
}
