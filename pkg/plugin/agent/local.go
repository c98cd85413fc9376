package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/plugin/logs"
	"github.com/p-scope/p-scope/pkg/plugin/settings"
)

// startPatience is how long a connection waits for an agent that has just been started.
const startPatience = 10 * time.Second

// Local is the agent on this host. When nothing listens on its socket, dialling starts the agent that is bundled with
// the plugin, if this process has the privileges; the agent ends with the last data source that uses it, and with the
// plugin.
type Local struct {
	places []place
	start  bool
	binary string

	mu     sync.Mutex
	closed bool
	held   *process // the bundled agent, once this data source has needed it
}

// place is where a local agent may listen.
type place struct {
	socket string
	data   string
	// own is true for a directory of this user's own; nobody else's socket is trusted there.
	own bool
}

func newLocal(s settings.Settings) *Local {
	l := &Local{start: s.StartAgent, binary: bundledAgent()}
	if s.SocketChosen {
		dir := filepath.Dir(s.SocketPath)
		l.places = []place{{socket: s.SocketPath, data: filepath.Join(dir, "data"),
			own: strings.HasPrefix(s.SocketPath, settings.OwnDir()+"/")}}
		return l
	}
	own := settings.OwnDir()
	l.places = []place{
		{socket: s.SocketPath, data: "/var/lib/pscope"},
		{socket: filepath.Join(own, "pscope.sock"), data: filepath.Join(own, "data"), own: true},
	}
	return l
}

// bundledAgent is the path of the agent's program beside the plugin's; empty when there is none for this system.
func bundledAgent() string {
	if runtime.GOOS != "linux" {
		return ""
	}
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	path := filepath.Join(filepath.Dir(exe), "pscope_linux_"+runtime.GOARCH)
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return ""
	}
	return path
}

// Socket is where the agent is expected.
func (l *Local) Socket() string { return l.places[0].socket }

// Bundled tells whether the agent that serves this data source was started by the plugin, and its process id.
func (l *Local) Bundled() (pid int, ok bool) {
	l.mu.Lock()
	p := l.held
	l.mu.Unlock()
	if p == nil {
		return 0, false
	}
	return p.pid()
}

// Dial connects to the agent, starting the bundled one when nothing listens. It fails with *NoAgent when that is not
// possible.
func (l *Local) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := l.connect(ctx)
	if err == nil || !nobodyListens(err) {
		return conn, err
	}
	p, err := l.acquire()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		if conn, err = l.connect(ctx); err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, &NoAgent{Socket: l.Socket(), Why: "the bundled agent was started but does not answer yet: " +
				p.lastWords(), Commands: l.commands()}
		case <-p.failed():
			return nil, &NoAgent{Socket: l.Socket(), Why: "the bundled agent ended at once: " + p.lastWords(),
				Commands: l.commands()}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// connect tries each place once.
func (l *Local) connect(ctx context.Context) (net.Conn, error) {
	var first error
	for _, p := range l.places {
		if p.own && !ownDirectory(filepath.Dir(p.socket)) {
			continue
		}
		d := net.Dialer{Timeout: dialTimeout}
		conn, err := d.DialContext(ctx, "unix", p.socket)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// nobodyListens is true for errors that starting an agent cures.
func nobodyListens(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// acquire makes sure that the bundled agent runs.
func (l *Local) acquire() (*process, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, &NoAgent{Socket: l.Socket(), Why: "the data source has just been closed"}
	case l.held != nil:
		return l.held, nil
	case !l.start:
		return nil, &NoAgent{Socket: l.Socket(), Why: "the data source is set not to start one", Commands: l.commands()}
	case l.binary == "":
		return nil, &NoAgent{Socket: l.Socket(), Why: "no agent for " + runtime.GOOS + "/" + runtime.GOARCH +
			" is bundled with the plugin", Commands: l.commands()}
	}
	if err := privileged(l.binary); err != nil {
		return nil, &NoAgent{Socket: l.Socket(), Why: "the bundled agent can't be started: " + err.Error(),
			Commands: l.commands()}
	}
	var why error
	for _, p := range l.places {
		if why = prepare(p); why != nil {
			continue
		}
		logs.Log.Info("starting the bundled agent", "program", l.binary, "socket", p.socket, "data", p.data)
		l.held = hold(l.binary, p)
		return l.held, nil
	}
	return nil, &NoAgent{Socket: l.Socket(), Why: "the bundled agent can't be started: " + why.Error(),
		Commands: l.commands()}
}

// commands are the ways to have a local agent.
func (l *Local) commands() []Command {
	binary := l.binary
	if binary == "" {
		return []Command{{"Run an agent on this host", fmt.Sprintf("sudo pscope agent --socket %s --socket-group %s",
			shellQuote(l.Socket()), shellQuote(ownGroup()))}}
	}
	return []Command{
		{"Run the agent as root", fmt.Sprintf("sudo %s agent --socket %s --socket-group %s", shellQuote(binary),
			shellQuote(l.Socket()), shellQuote(ownGroup()))},
		{"let Grafana start it by itself", lack.SetCap(shellQuote(binary))},
	}
}

// ownGroup is the group that Grafana runs as: an agent whose socket belongs to it lets Grafana in and nobody else.
func ownGroup() string {
	g, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	if err != nil {
		return "grafana"
	}
	return g.Name
}

// Commands are the ways to have a local agent, for the health check.
func (l *Local) Commands() []Command { return l.commands() }

// Close lets go of the bundled agent; it ends when no other data source uses it.
func (l *Local) Close() {
	l.mu.Lock()
	held := l.held
	l.held, l.closed = nil, true
	l.mu.Unlock()
	if held != nil {
		release(held)
	}
}

// prepare makes the directories of a place and checks that they can be written.
func prepare(p place) error {
	for _, dir := range []string{filepath.Dir(p.socket), p.data} {
		mode := fs.FileMode(0o755)
		if p.own {
			mode = 0o700
		}
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
		if p.own && !ownDirectory(dir) {
			return fmt.Errorf("%s belongs to another user", dir)
		}
		f, err := os.CreateTemp(dir, ".pscope-*")
		if err != nil {
			return err
		}
		_ = f.Close()
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	return nil
}

// shellQuote leaves plain paths as they are.
func shellQuote(s string) string {
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '/', r == '.', r == '_', r == '-',
			r == ':', r == ',', r == '+':
		default:
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	return s
}
