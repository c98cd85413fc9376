package process

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

func TestMain(m *testing.M) { fixtures.Main(m) }

// inspectFile runs Inspect on a file.
func inspectFile(t testing.TB, path string) *goruntime.Binary {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := goruntime.Inspect(f)
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(path), err)
	}
	return b
}

// child is a running test program.
type child struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// start runs a program until the test ends. It runs for as long as its standard input is open.
func start(t testing.TB, exe string, attr *syscall.SysProcAttr, env ...string) *child {
	t.Helper()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: cmd, stdin: stdin, stdout: bufio.NewReader(stdout)}
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// do sends a command and waits for the answer.
func (c *child) do(command string) {
	c.t.Helper()
	if _, err := io.WriteString(c.stdin, command); err != nil {
		c.t.Fatal(err)
	}
	for range command {
		if line, err := c.stdout.ReadString('\n'); line != "ok\n" {
			c.t.Fatalf("command %q: %q, %v", command, line, err)
		}
	}
}

// ask sends a command and returns the answer.
func (c *child) ask(command string) string {
	c.t.Helper()
	if _, err := io.WriteString(c.stdin, command); err != nil {
		c.t.Fatal(err)
	}
	line, err := c.stdout.ReadString('\n')
	if err != nil {
		c.t.Fatalf("command %q: %v", command, err)
	}
	return strings.TrimSpace(line)
}

// eventually tries until it works, because other programs share the machine.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// open opens the child for reading once its runtime has started.
func (c *child) open(b *goruntime.Binary) *Process {
	c.t.Helper()
	p, err := Open(c.cmd.Process.Pid, b)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(p.Close)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err = p.Validate()
		if err == nil {
			return p
		}
		if !errors.Is(err, refusal.ErrNotStarted) || time.Now().After(deadline) {
			c.t.Fatalf("Validate: %v", err)
		}
	}
}

func snapshot(t testing.TB, p *Process, withMs bool) *Snapshot {
	t.Helper()
	s := new(Snapshot)
	if err := p.Snapshot(s, withMs); err != nil {
		t.Fatalf("Snapshot: %v", err)
	}
	return s
}

// fsBase reads a thread's thread pointer.
func fsBase(tid int) (uint64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceSeize(tid); err != nil {
		return 0, err
	}
	defer unix.PtraceDetach(tid)
	if err := unix.PtraceInterrupt(tid); err != nil {
		return 0, err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(tid, &status, unix.WALL, nil); err != nil {
		return 0, err
	}
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return 0, err
	}
	return fsBaseOf(&regs), nil
}
