//go:build linux

package demo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxHold bounds how long a read of the slow file can take, whatever is asked for: a thread in D can be freed by
// nothing but the answer.
const maxHold = 30 * time.Minute

const (
	serverArg = "serve-slow-file" // first argument of the child process
	// file system type is "fuse." + fsName; its source is fsName + ":" + pid of the server
	fsName       = "pscope-demo"
	fileName     = "slow"              // the one file
	mountPattern = "pscope-demo-mount" // prefix of the mount points' names
)

// slowFile is a file whose pages come late, served by a child process through FUSE. The child unmounts when its
// standard input ends, which it does however this process dies.
type slowFile struct {
	path  string
	dir   string
	mu    sync.Mutex
	stdin io.WriteCloser
	said  *bufio.Reader // the child's standard output
	cmd   *exec.Cmd
	done  chan struct{} // closed when the child has ended
}

// startSlowFile mounts the file. The error says what is missing and what to do.
func startSlowFile() (*slowFile, error) {
	removeStaleMounts()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return nil, fmt.Errorf("/dev/fuse is missing (%w); load the kernel module with 'modprobe fuse', or in a "+
			"container pass '--device /dev/fuse --cap-add SYS_ADMIN'", err)
	}
	dir, err := os.MkdirTemp("", mountPattern)
	if err != nil {
		return nil, fmt.Errorf("no mount point: %w; set TMPDIR to a directory that can be written", err)
	}
	s := &slowFile{path: filepath.Join(dir, fileName), dir: dir, done: make(chan struct{})}
	if err := s.start(); err != nil {
		_ = os.Remove(dir)
		return nil, err
	}
	return s, nil
}

func (s *slowFile) start() error {
	s.cmd = exec.Command("/proc/self/exe", "demo", serverArg, s.dir)
	s.cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	s.cmd.Stderr = os.Stderr
	// The child ends by its standard input; the signal is for the case that it hangs before it reads there.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var err error
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	started := make(chan error)
	go func() {
		// The death signal comes when the starting thread ends, not the process: so this thread is kept for as long as
		// the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := s.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		_ = s.cmd.Wait()
		close(s.done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("can't start the slow file's server: %w", err)
	}
	s.said = bufio.NewReader(stdout)
	line, err := s.said.ReadString('\n')
	if answer := strings.TrimSpace(line); err != nil || answer != "ready" {
		_ = s.stdin.Close()
		<-s.done
		if answer == "" {
			answer = "the slow file's server ended without a word"
		}
		return errors.New(answer)
	}
	return nil
}

// arm makes the next read of the file take hold, or until release. Once it has returned, that is so: a read that came
// before the child knew of it would be answered at once.
func (s *slowFile) arm(hold time.Duration) error {
	if err := s.send("hold " + strconv.FormatInt(int64(hold), 10)); err != nil {
		return err
	}
	if line, err := s.said.ReadString('\n'); err != nil || line != "armed\n" {
		return fmt.Errorf("the slow file's server does not answer (%q, %w); restart the demo", line, err)
	}
	return nil
}

// release answers all reads that wait.
func (s *slowFile) release() { _ = s.send("release") }

func (s *slowFile) send(line string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := io.WriteString(s.stdin, line+"\n"); err != nil {
		return fmt.Errorf("the slow file's server is gone: %w; restart the demo", err)
	}
	return nil
}

// stop answers what waits, unmounts and removes the mount point; it returns when nothing is left.
func (s *slowFile) stop() {
	_ = s.stdin.Close()
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	unmount(s.dir)
	_ = os.Remove(s.dir)
}

// removeStaleMounts unmounts what demos that were killed together with their servers have left.
func removeStaleMounts() {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		// "36 35 98:0 /root /mount/point options shared:1 - type source superoptions"
		head, tail, ok := strings.Cut(sc.Text(), " - ")
		fields, kind := strings.Fields(head), strings.Fields(tail)
		if !ok || len(fields) < 5 || len(kind) < 2 || kind[0] != "fuse."+fsName {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimPrefix(kind[1], fsName+":"))
		if err != nil || serves(pid) {
			continue
		}
		unmount(fields[4])
		_ = os.Remove(fields[4])
	}
}

// serves says whether pid is a running server of a slow file. One that is dead but not yet reaped has no command line,
// and a process that was given the same number since has another.
func serves(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(line), serverArg)
}

// unmount detaches a mount point at once, even while something there is open; nothing happens when nothing is mounted.
func unmount(dir string) {
	if syscall.Unmount(dir, syscall.MNT_DETACH) == nil {
		return
	}
	if bin, err := exec.LookPath("fusermount3"); err == nil {
		_ = exec.Command(bin, "-u", "-z", "-q", dir).Run()
	}
}
