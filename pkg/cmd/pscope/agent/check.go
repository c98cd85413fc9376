//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/api"
)

// check is `pscope agent --check`: it prints what is wrong and gives the exit code. It changes nothing and needs no
// privileges; what it may not look at it says.
func check(c *Config, err error, w io.Writer) int {
	var all Problems
	if !errors.As(err, &all) {
		all = nil
	}
	bad := map[string]bool{}
	for _, p := range all {
		bad[p.Setting] = true
	}
	all = append(all, c.inspectFiles(bad)...)
	all = append(all, c.inspectPlaces(bad)...)
	all.sort()
	for _, p := range all {
		kind := "wrong"
		if p.Warning {
			kind = "warning"
		}
		fmt.Fprintf(w, "%-7s  %s\n", kind, p)
	}
	what := "the flags"
	if c.File != "" {
		what = c.File
	}
	if n := len(all.fatal()); n > 0 {
		fmt.Fprintf(w, "An agent would not start with %s, or would do less than it is told: %d wrong.\n", what, n)
		return 1
	}
	fmt.Fprintf(w, "An agent can start with %s.\n", what)
	return 0
}

// inspector collects problems with what settings name.
type inspector struct {
	c   *Config
	all Problems
}

func (i *inspector) add(warning bool, setting, format string, args ...any) {
	p := Problem{Setting: setting, Text: fmt.Sprintf(format, args...), Warning: warning}
	p.Bare = i.c.withoutValues(p.Text)
	if line, ok := i.c.lines[setting]; ok {
		p.File, p.Line = i.c.File, line
	}
	i.all = append(i.all, p)
}

// unlessUnreadable adds an error, as a warning where it is that whoever runs this may not read a file: the agent has
// CAP_DAC_READ_SEARCH.
func (i *inspector) unlessUnreadable(setting string, err error) {
	if errors.Is(err, fs.ErrPermission) {
		i.add(true, setting, "not checked: %v; run this as root or as the agent's user", err)
		return
	}
	i.add(false, setting, "%v", err)
}

// inspectFiles looks at the files that the settings name, as an agent does at its start. Those of settings that are bad
// anyway are left out.
func (c *Config) inspectFiles(bad map[string]bool) Problems {
	i := &inspector{c: c}
	if info, err := os.Stat(c.File); c.File != "" && err == nil && info.Mode().Perm()&0o022 != 0 {
		i.add(true, "config", "%s may be changed by others than its owner (mode %#o): chmod go-w it", c.File,
			info.Mode().Perm())
	}
	if c.TokenFile != "" && !bad["token-file"] {
		_, err := api.LoadToken(c.TokenFile, i.log("token-file"))
		i.note("token-file", err)
	}
	if c.TLSCert != "" && c.TLSKey != "" && !bad["tls-cert"] {
		_, err := api.LoadTLS(c.TLSCert, c.TLSKey, c.TLSClientCA, i.log("tls-cert"))
		i.note("tls-cert", err)
	}
	for _, o := range c.AllowOrigins {
		if u, err := url.Parse(o); o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "") {
			i.add(true, "allow-origins", "no browser sends the origin %q: write it like https://grafana.example:3000, "+
				"without a path", o)
		}
	}
	return i.all
}

func (i *inspector) note(setting string, err error) {
	if err != nil {
		i.unlessUnreadable(setting, err)
	}
}

// log makes problems of what would be warned of.
func (i *inspector) log(setting string) *slog.Logger { return slog.New(&warned{i, setting}) }

// warned is a log handler.
type warned struct {
	i       *inspector
	setting string
}

func (*warned) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (w *warned) WithAttrs([]slog.Attr) slog.Handler         { return w }
func (w *warned) WithGroup(string) slog.Handler              { return w }
func (w *warned) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	w.i.add(true, w.setting, "%s", text)
	return nil
}

// inspectPlaces looks at addresses and directories.
func (c *Config) inspectPlaces(bad map[string]bool) Problems {
	i := &inspector{c: c}
	if c.Listen != "" && !bad["listen"] {
		i.listen()
	}
	if c.Socket != "" && !bad["socket"] {
		i.socket()
	}
	if c.SocketGroup != "" {
		if _, err := user.LookupGroup(c.SocketGroup); err != nil {
			i.add(false, "socket-group", "no group %q to give the socket to: make it (groupadd %s) or choose another",
				c.SocketGroup, c.SocketGroup)
		}
	}
	if c.DataDir != "" && !bad["data-dir"] {
		i.directory("data-dir", c.DataDir, "without it the history is kept in a temporary directory and lost at "+
			"the end")
	}
	if c.Host == "" {
		if _, err := os.Hostname(); err != nil {
			i.add(false, "host", "the host's name is not known: %v; set it with --host", err)
		}
	}
	return i.all
}

func (i *inspector) listen() {
	c := i.c
	addr, err := net.ResolveTCPAddr("tcp", c.Listen)
	if err != nil {
		i.add(false, "listen", "listen is %q, which is no address: %v; write it like 127.0.0.1:9477", c.Listen, err)
		return
	}
	if err := api.CheckAccess(c.Listen, c.TokenFile != "", c.TLSClientCA != "", c.Insecure); err != nil {
		i.add(false, "listen", "%v", err)
	}
	if ip := addr.IP; len(ip) > 0 && !ip.IsUnspecified() && !ip.IsLoopback() && !isOwn(ip) {
		i.add(false, "listen", "%s is no address of this host; 'ip address' lists them", ip)
	}
	if addr.Port == 0 {
		return
	}
	switch by := whoListens(addr); {
	case by == nil:
		if addr.Port < unprivilegedPorts() {
			i.add(true, "listen", "port %d takes CAP_NET_BIND_SERVICE, which an agent as docs/install.md has it "+
				"lacks; "+
				"choose one from %d on", addr.Port, unprivilegedPorts())
		}
	case by.agent:
		i.add(true, "listen", "%s is taken by an agent that runs already (%s): a second one would not start beside it",
			c.Listen, by)
	case by.pid == 0:
		i.add(true, "listen", "%s is taken already, by a process that only root may name; unless that is the agent "+
			"itself, choose another", c.Listen)
	default:
		i.add(false, "listen", "%s is taken by another program (%s): stop it, or choose another address", c.Listen, by)
	}
}

func isOwn(ip net.IP) bool {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true // not known: nothing is said
	}
	for _, a := range own {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}

// unprivilegedPorts is the first port that every user may listen on (ip(7)).
func unprivilegedPorts() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if n, bad := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && bad == nil {
		return n
	}
	return 1024
}

func (i *inspector) socket() {
	path := i.c.Socket
	if len(path) > api.MostOfSocketPath {
		i.add(false, "socket", "the socket's path has %d characters, the kernel takes %d: choose a shorter one",
			len(path),
			api.MostOfSocketPath)
		return
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket == 0 {
		i.add(false, "socket", "%s is not a socket, so it stays and an agent can't serve there: choose another place",
			path)
	}
	i.directory("socket", filepath.Dir(path), "without it nobody can ask the agent over its socket")
}

// directory says whether an agent could write into a directory, or make it.
func (i *inspector) directory(setting, dir, without string) {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)) && at != filepath.Dir(at):
			continue
		case errors.Is(err, fs.ErrPermission):
			i.add(true, setting, "not checked: %v; run this as root or as the agent's user", err)
			return
		case err != nil:
			i.add(false, setting, "%v; %s", err, without)
			return
		case !info.IsDir():
			i.add(false, setting, "%s is no directory, so %s can't be used; %s", at, dir, without)
			return
		}
		var s unix.Statfs_t
		if unix.Statfs(at, &s) == nil && s.Flags&unix.ST_RDONLY != 0 {
			i.add(false, setting, "%s is on a file system that is mounted read-only; %s", dir, without)
		} else if unix.Faccessat(unix.AT_FDCWD, at, unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil {
			i.add(true, setting, "%s can't be written by user %d, who runs this check; the agent's user must be "+
				"able to, "+
				"else %s", at, os.Geteuid(),
				strings.TrimPrefix(without, "without it "))
		}
		return
	}
}
