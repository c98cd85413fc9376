package history

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// pair makes two joined sockets: ours, and the file that the other process gets.
func pair(kind int, name string) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair for the history process: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// connOf makes a connection of a socket and closes the file.
func connOf(f *os.File) (*net.UnixConn, error) {
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, errors.New("not a unix socket")
	}
	return u, nil
}

// dialer makes connections to the process at the other end of a packet socket.
type dialer struct {
	mu   sync.Mutex
	over *net.UnixConn
}

// dial implements http.Transport.DialContext.
func (d *dialer) dial(_ context.Context, _, _ string) (net.Conn, error) {
	ours, theirs, err := pair(unix.SOCK_STREAM, "history-request")
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	d.mu.Lock()
	_, _, err = d.over.WriteMsgUnix([]byte{0}, unix.UnixRights(int(theirs.Fd())), nil)
	d.mu.Unlock()
	if err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("hand a connection to the history process: %w", err)
	}
	return connOf(ours)
}

// listener accepts the connections that dial makes.
type listener struct{ over *net.UnixConn }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	var b [1]byte
	rights := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := l.over.ReadMsgUnix(b[:], rights)
	if err != nil {
		return nil, err
	}
	if n == 0 && oobn == 0 {
		return nil, net.ErrClosed // the agent is gone
	}
	messages, err := unix.ParseSocketControlMessage(rights[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("a packet from the agent without a connection: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("a packet from the agent without a connection: %w", err)
	}
	unix.CloseOnExec(fds[0])
	return connOf(os.NewFile(uintptr(fds[0]), "history-request"))
}

// Close implements net.Listener.
func (l listener) Close() error { return l.over.Close() }

// Addr implements net.Listener.
func (l listener) Addr() net.Addr { return l.over.LocalAddr() }
