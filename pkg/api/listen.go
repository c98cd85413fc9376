//go:build linux

package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func listenTCP(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is taken by another program (perhaps another agent): choose another address with "+
			"--listen, or none with --listen ''", addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("may not listen on %s: ports below 1024 need CAP_NET_BIND_SERVICE; choose another with "+
			"--listen", addr)
	case err != nil:
		return nil, fmt.Errorf("can't listen on %s: %w; --listen takes HOST:PORT", addr, err)
	}
	return shortQueue{l}, nil
}

// shortQueue keeps little in the kernel for a slow reader: what waits there is no longer the newest state.
type shortQueue struct{ net.Listener }

const sendBuffer = 128 << 10

func (l shortQueue) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if t, ok := c.(interface{ SetWriteBuffer(int) error }); ok {
		_ = t.SetWriteBuffer(sendBuffer)
	}
	return c, err
}

func isLoopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// MostOfSocketPath is how long the path of a unix socket may be (unix(7)).
const MostOfSocketPath = 107

// listenUnix makes the socket. A file left behind by an agent that was killed is replaced; a living agent is not.
func listenUnix(path string, mode os.FileMode, group string) (net.Listener, error) {
	if mode == 0 {
		mode = 0o660
	}
	if n := len(path); n > MostOfSocketPath {
		return nil, fmt.Errorf("the socket's path has %d characters, the kernel takes %d: choose a shorter one with "+
			"--socket",
			n, MostOfSocketPath)
	}
	gid := -1
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, fmt.Errorf("no group %q to give the socket to: %w; make it (groupadd %s) or choose another",
				group, err, group)
		}
		gid, _ = strconv.Atoi(g.Gid)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("can't make %s for the socket: %w; make it yourself (sudo install -d -o %d %s) or "+
			"choose another place with --socket", dir, err, os.Getuid(), dir)
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// Permissions set before the socket is bound hold from its first moment on.
		return errors.Join(c.Control(func(fd uintptr) { _ = unix.Fchmod(int(fd), uint32(mode.Perm())) }))
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EROFS) {
			return nil, fmt.Errorf("may not make the socket %s: give its directory to the agent's user (sudo chown %d "+
				"%s) or choose another place with --socket", path, os.Getuid(), dir)
		}
		return nil, fmt.Errorf("can't make the socket %s: %w; choose another place with --socket", path, err)
	}
	if gid >= 0 {
		err = os.Chown(path, -1, gid)
	}
	// The umask may have taken permissions away.
	if err = errors.Join(err, os.Chmod(path, mode.Perm())); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("can't set the permissions of the socket %s: %w; run the agent as a member of the "+
			"group, or choose another", path, err)
	}
	return shortQueue{l}, nil
}

// clearStale removes a socket nobody listens on, and refuses if somebody does or if the path is something else.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("can't look at %s: %w; choose another place with --socket", path, err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is not a socket, so it stays: choose another place with --socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		defer c.Close()
		return fmt.Errorf("another agent%s already listens on %s: stop that one, use it, or choose another place with "+
			"--socket", peer(c), path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("can't tell whether another agent listens on %s: %w; choose another place with --socket",
			path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("can't remove the socket %s that another agent left behind: %w; remove it yourself or "+
			"choose another place with --socket", path, err)
	}
	return nil
}

// peer names the process at the other end.
func peer(c net.Conn) string {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return ""
	}
	var cred *unix.Ucred
	_ = raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || cred == nil || cred.Pid == 0 {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", cred.Pid)
}
