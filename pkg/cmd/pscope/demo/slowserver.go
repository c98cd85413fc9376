//go:build linux

package demo

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// slowServer is the child process' side of a slowFile.
type slowServer struct {
	fs.Inode
	mu   sync.Mutex
	gate chan struct{} // reads wait until it is closed
}

var (
	_ fs.NodeGetattrer = (*slowNode)(nil)
	_ fs.NodeOpener    = (*slowNode)(nil)
	_ fs.NodeReader    = (*slowNode)(nil)
)

// slowNode is the file.
type slowNode struct {
	fs.Inode
	server *slowServer
}

func (s *slowServer) OnAdd(ctx context.Context) {
	child := s.NewPersistentInode(ctx, &slowNode{server: s}, fs.StableAttr{Mode: fuse.S_IFREG, Ino: 2})
	s.AddChild(fileName, child, false)
}

func (n *slowNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0o444
	out.Size = uint64(os.Getpagesize())
	return 0
}

// Open asks for no caching flag: the kernel then drops the file's pages on every open, and the next touch faults again.
func (n *slowNode) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

// Read answers when the gate opens. It does not watch its context: a kernel that interrupts the read gets its answer at
// the same time.
func (n *slowNode) Read(_ context.Context, _ fs.FileHandle, dest []byte, _ int64) (fuse.ReadResult, syscall.Errno) {
	n.server.mu.Lock()
	gate := n.server.gate
	n.server.mu.Unlock()
	if gate != nil {
		<-gate
	}
	clear(dest)
	return fuse.ReadResultData(dest), 0
}

// hold lets reads wait for d from now, release ends the waiting.
func (s *slowServer) hold(d time.Duration) {
	s.release()
	gate := make(chan struct{})
	s.mu.Lock()
	s.gate = gate
	s.mu.Unlock()
	time.AfterFunc(min(d, maxHold), func() { s.open(gate) })
}

func (s *slowServer) release() {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	s.open(gate)
}

// open opens the gate unless another one has taken its place.
func (s *slowServer) open(gate chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if gate != nil && s.gate == gate {
		close(gate)
		s.gate = nil
	}
}

// serveSlowFile mounts the file below the directory args[0], says "ready" and obeys "hold NANOSECONDS", which it
// answers with "armed", and "release" on its standard
// input until that ends or SIGTERM comes; then it answers what waits and unmounts.
func serveSlowFile(args []string) (int, error) {
	if len(args) != 1 {
		return 2, fmt.Errorf("%s is for the demo's own use", serverArg)
	}
	dir := args[0]
	// Ctrl-C goes to the whole foreground group; this process ends after its parent has been freed, not before.
	signal.Ignore(syscall.SIGINT)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)

	s := &slowServer{}
	instant := time.Duration(0)
	server, err := fs.Mount(dir, s, &fs.Options{
		AttrTimeout:  &instant,
		EntryTimeout: &instant,
		MountOptions: fuse.MountOptions{
			DirectMount:   true,
			FsName:        fmt.Sprintf("%s:%d", fsName, os.Getpid()),
			Name:          fsName,
			DisableXAttrs: true,
		},
	})
	if err != nil {
		fmt.Printf("can't mount a FUSE file system (%v); run the demo as root, or install fusermount3 (Debian: 'apt "+
			"install fuse3'); in a container pass '--device /dev/fuse --cap-add SYS_ADMIN'\n", err)
		return 0, nil
	}
	fmt.Println("ready")

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for sc := bufio.NewScanner(os.Stdin); sc.Scan(); {
			word, arg, _ := strings.Cut(sc.Text(), " ")
			switch word {
			case "hold":
				if n, err := strconv.ParseInt(arg, 10, 64); err == nil {
					s.hold(time.Duration(n))
				}
				fmt.Println("armed")
			case "release":
				s.release()
			}
		}
	}()
	select {
	case <-ended:
	case <-term:
	}
	s.release()
	if err := server.Unmount(); err != nil {
		unmount(dir) // something there is still open: detach, the kernel cleans up when it is closed
	}
	_ = os.Remove(dir)
	return 0, nil
}
