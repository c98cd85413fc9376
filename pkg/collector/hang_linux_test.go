package collector

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// These tests have a real file system whose server does not answer, as a network file system whose server is gone. It
// runs in a process of its own: one that waits for itself can't be helped.

// asFileServer makes the test binary that server; its value is the directory to mount it on, and what to serve.
const asFileServer = "PSCOPE_TEST_AS_FILE_SERVER"

// fileServer answers until it is told not to.
type fileServer struct {
	fs.Inode
	data   []byte
	mu     sync.Mutex
	gates  map[string]chan struct{} // by operation: what waits for it to be closed
	passes int                      // so many of each are answered first
}

// fileNode is one of its files; all have the same contents.
type fileNode struct {
	fs.Inode
	s *fileServer
}

var (
	_ fs.NodeOpener    = (*fileNode)(nil)
	_ fs.NodeReader    = (*fileNode)(nil)
	_ fs.NodeGetattrer = (*fileNode)(nil)
	_ fs.NodeSetattrer = (*fileNode)(nil)
	_ fs.NodeWriter    = (*fileNode)(nil)
	_ fs.NodeFlusher   = (*fileNode)(nil)
)

func (s *fileServer) wait(operation string) {
	s.mu.Lock()
	gate := s.gates[operation]
	if gate != nil && s.passes > 0 {
		s.passes--
		gate = nil
	}
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

func (n *fileNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.s.wait("getattr")
	out.Mode, out.Size = 0o777, uint64(len(n.s.data))
	return 0
}

func (n *fileNode) Setattr(ctx context.Context, h fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return n.Getattr(ctx, h, out)
}

// Write takes what it is given for written.
func (n *fileNode) Write(_ context.Context, _ fs.FileHandle, b []byte, _ int64) (uint32, syscall.Errno) {
	n.s.wait("write")
	return uint32(len(b)), 0
}

func (n *fileNode) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	n.s.wait("open")
	return nil, 0, 0
}

// Flush answers close(2).
func (n *fileNode) Flush(context.Context, fs.FileHandle) syscall.Errno {
	n.s.wait("flush")
	return 0
}

func (n *fileNode) Read(_ context.Context, _ fs.FileHandle, b []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.s.wait("read")
	return fuse.ReadResultData(n.s.data[min(off, int64(len(n.s.data))):min(off+int64(len(b)), int64(len(n.s.data)))]), 0
}

// runFileServer serves the files named on the first line of its input, and obeys the lines that follow.
func runFileServer(dir, contents string) {
	fail := func(err error) {
		fmt.Println(err)
		os.Exit(1)
	}
	data, err := os.ReadFile(contents)
	if err != nil {
		fail(err)
	}
	s := &fileServer{data: data, gates: map[string]chan struct{}{}}
	lines := bufio.NewScanner(os.Stdin)
	lines.Scan()
	names := strings.Fields(lines.Text())
	var never time.Duration
	server, err := fs.Mount(dir, s, &fs.Options{
		AttrTimeout: &never, EntryTimeout: &never,
		OnAdd: func(ctx context.Context) {
			for i, name := range names {
				file := s.NewPersistentInode(ctx, &fileNode{s: s},
					fs.StableAttr{Mode: fuse.S_IFREG, Ino: uint64(100 + i)})
				if folder, base := filepath.Split(name); folder != "" {
					in := s.NewPersistentInode(ctx, &fs.Inode{},
						fs.StableAttr{Mode: fuse.S_IFDIR, Ino: uint64(1000 + i)})
					s.AddChild(strings.TrimSuffix(folder, "/"), in, false)
					in.AddChild(base, file, false)
					continue
				}
				s.AddChild(name, file, false)
			}
		},
		MountOptions: fuse.MountOptions{DirectMountStrict: true, AllowOther: true, FsName: "pscope-test",
			DisableXAttrs: true},
	})
	if err != nil {
		fail(err)
	}
	fmt.Println("ready")
	release := func() {
		s.mu.Lock()
		for _, gate := range s.gates {
			close(gate)
		}
		clear(s.gates)
		s.mu.Unlock()
	}
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if f[0] == "release" {
			release()
		} else { // "hang", how many are answered first, and what is not
			s.mu.Lock()
			s.passes, _ = strconv.Atoi(f[1])
			for _, operation := range f[2:] {
				s.gates[operation] = make(chan struct{})
			}
			s.mu.Unlock()
		}
		fmt.Println("done")
	}
	release()
	if server.Unmount() != nil {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
	os.Exit(0)
}

// hangingFiles mounts files with the contents of one. say tells the server something, as runFileServer has it.
func hangingFiles(t *testing.T, contents string, names ...string) (dir string, say func(string)) {
	t.Helper()
	needs(t, unix.CAP_SYS_ADMIN, "mounting a file system")
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("there is no FUSE here: ", err)
	}
	dir = t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asFileServer+"="+dir+"\n"+contents)
	server, in := piped(t, cmd)
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	if said := server.say("%s", strings.Join(names, " ")); said != "ready" {
		t.Fatal("the file server: ", said)
	}
	return dir, func(what string) {
		t.Helper()
		if said := server.say("%s", what); said != "done" {
			t.Fatal("the file server: ", said)
		}
	}
}

// startFile starts a program by a shell: a child between fork and exec keeps its parent from running, and here its file
// may not answer.
func startFile(t *testing.T, path string) int {
	t.Helper()
	p, in := piped(t, exec.Command("sh", "-c", `exec "$0"`, path))
	t.Cleanup(func() {
		in.Close()
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	p.out.Scan()
	return p.cmd.Process.Pid
}

// TestProgramsWhoseFilesDoNotAnswer: programs on a file system whose server does not answer are listed with that
// reason, no other process waits for them, and they are observed when it answers.
func TestProgramsWhoseFilesDoNotAnswer(t *testing.T) {
	bin, err := targetBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, operation := range []string{"open", "read", "getattr open read"} {
		t.Run(operation, func(t *testing.T) {
			const n = 6 // more than there are workers
			var names []string
			for i := range n {
				names = append(names, fmt.Sprintf("%d/%s", i, filepath.Base(bin)))
			}
			dir, say := hangingFiles(t, bin, names...)
			var pids []int
			for _, name := range names {
				pids = append(pids, startFile(t, filepath.Join(dir, name)))
			}
			say("hang 0 " + operation)
			defer say("release")
			before := start(t)
			c, _ := collectIn(t, ModeEBPF, nil)
			t.Logf("one that ran already is observed after %v", waitFor(t, "another process", func() bool {
				return view(c, before.cmd.Process.Pid) != nil
			}))
			waitFor(t, "all are listed with the reason", func() bool {
				listed := 0
				for _, pid := range pids {
					if target := targetOf(c, pid); target.Source == pstate.SourceRefused &&
						strings.Contains(target.Reason, "did not answer within 5s") {
						listed++
					}
				}
				return listed == n
			})
			after := start(t)
			took := seen(t, c, after.cmd.Process.Pid)
			if t.Logf("one that comes later is observed after %v", took); took > kernel.AnswerWithin {
				t.Errorf("a process that came later was observed after %v", took)
			}
			if lost := c.Agent().GlobalLost["file_no_answer"]; lost < 2 || lost > n {
				t.Errorf("%d calls were given up for %d files", lost, n)
			}
			say("release")
			for _, pid := range pids {
				seen(t, c, pid)
			}
			for _, target := range c.Targets() {
				if target.Source == pstate.SourceRefused {
					t.Errorf("still refused: %+v", target)
				}
			}
		})
	}
}

// TestALibraryWhoseFileDoesNotAnswer: likewise a library, whose process has another one that can be read.
func TestALibraryWhoseFileDoesNotAnswer(t *testing.T) {
	library := goLibrary(t, "libfine.so")
	dir, say := hangingFiles(t, library, "libhangs.so")
	pid, load := runPython(t, loader)
	load(filepath.Join(dir, "libhangs.so") + " 0")
	load(library + " 0")
	say("hang 0 getattr open read")
	defer say("release")
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.Only, o.Include = int32(pid), nil })
	waitFor(t, "the library is listed with the reason", func() bool {
		target := runtimesIn(c, pid)["libhangs.so"]
		return target.Source == pstate.SourceRefused && strings.Contains(target.Reason, "did not answer within 5s")
	})
	waitFor(t, "the other library is observed", func() bool {
		return runtimesIn(c, pid)["libfine.so"].Source == pstate.SourceEBPF
	})
	say("release")
	waitFor(t, "it is observed when its file answers", func() bool {
		return runtimesIn(c, pid)["libhangs.so"].Source == pstate.SourceSnapshot
	})
	if found := runtimesIn(c, pid); len(found) != 2 {
		t.Errorf("%+v", found)
	}
}

// TestAFileThatHangsWhenItIsProbed: a program whose file answers when it is read and not when probes are attached is
// observed without stops, holds up nobody, and the agent ends.
func TestAFileThatHangsWhenItIsProbed(t *testing.T) {
	bin, err := targetBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir, say := hangingFiles(t, bin, filepath.Base(bin))
	pid := startFile(t, filepath.Join(dir, filepath.Base(bin)))
	say("hang 1 open")
	defer say("release")
	c, _ := collectIn(t, ModeEBPF, nil)
	waitFor(t, "it is observed", func() bool { return view(c, pid) != nil })
	other := start(t)
	seen(t, c, other.cmd.Process.Pid)
	waitFor(t, "its reason says why there are no stops", func() bool {
		v := view(c, pid)
		return v != nil && strings.Contains(v.Reason, "did not answer within 5s")
	})
}

// TestAFileThatHangsWhenItIsClosed: the worker that closes it is given up, as one that opens a file is.
func TestAFileThatHangsWhenItIsClosed(t *testing.T) {
	bin, err := targetBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir, say := hangingFiles(t, bin, filepath.Base(bin))
	pid := startFile(t, filepath.Join(dir, filepath.Base(bin)))
	say("hang 0 flush")
	defer say("release")
	c, _ := collectIn(t, ModeEBPF, nil)
	waitFor(t, "the worker is given up", func() bool { return c.Agent().GlobalLost["file_no_answer"] > 0 })
	seen(t, c, start(t).cmd.Process.Pid)
	say("release")
	seen(t, c, pid)
}

// TestMemoryThatDoesNotAnswer: a process that waits for its file system while it holds the lock of its memory is listed
// with that reason, and all others are observed without a gap.
func TestMemoryThatDoesNotAnswer(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode Mode) {
		bin, err := targetBinary()
		if err != nil {
			t.Fatal(err)
		}
		dir, say := hangingFiles(t, bin, "data")
		c, _ := collectIn(t, mode, nil)
		p, other := start(t), start(t)
		pid := p.cmd.Process.Pid
		seen(t, c, pid)
		seen(t, c, other.cmd.Process.Pid)
		say("hang 0 write")
		defer say("release")
		p.say("unmap %s", filepath.Join(dir, "data"))
		var longest time.Duration
		last := time.Now()
		waitFor(t, "it is listed with the reason", func() bool {
			if v := view(c, other.cmd.Process.Pid); v != nil {
				longest = max(longest, time.Since(last))
				last = time.Now()
			}
			target := targetOf(c, pid)
			return target.Source == pstate.SourceRefused && strings.Contains(target.Reason, "not answer")
		})
		t.Logf("the longest time without a view of the other process: %v", longest)
		if n := c.Agent().GlobalLost["agent_paused"]; n > 0 || view(c, other.cmd.Process.Pid) == nil {
			t.Errorf("%d pauses, and the other process is %+v", n, targetOf(c, other.cmd.Process.Pid))
		}
		say("release")
		seen(t, c, pid)
	})
}
