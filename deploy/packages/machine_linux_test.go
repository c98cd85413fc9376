//go:build linux

package packages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inside is set for the process of a test that has mounts of its own.
const inside = "PSCOPE_TEST_WITH_MOUNTS"

// withMounts runs a test in a process that may mount file systems without anybody else seeing them.
func withMounts(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if os.Getenv(inside) != "" {
		f(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("packages are installed by root only")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if m := bytes.Index(out, []byte("--- SKIP")); m >= 0 {
		t.Skipf("%s", bytes.TrimSpace(out[:m]))
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// machine is this one as it would be if what is done to it were undone afterwards: its root is a layer over the real
// one.
type machine struct {
	t       *testing.T
	root    string
	changes string // the layer: everything that was changed
	calls   string // what systemctl was called with, of the root
}

// noSystemd stands in for systemctl's talks with systemd.
const noSystemd = `#!/bin/sh
echo "$*" >> CALLS
case " $* " in
*" is-active "*) [ -e CALLS.active ] ;;
*" start "* | *" restart "*) touch CALLS.active ;;
*" stop "*) rm -f CALLS.active ;;
*" preset "* | *" enable "* | *" disable "* | *" is-enabled "*)
    exec systemctl-itself --root=/ $(echo "$*" | sed 's/--root=[^ ]* //; s/--now//') ;;
esac
`

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "pkg")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, root: filepath.Join(dir, "m"), changes: filepath.Join(dir, "u"), calls: "/calls"}
	for _, d := range []string{"m", "u", "w"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, at := range []string{"sys", "proc", "dev", "."} {
			_ = syscall.Unmount(filepath.Join(m.root, at), syscall.MNT_DETACH)
		}
		_ = os.RemoveAll(dir)
	})
	layers := "lowerdir=/,upperdir=" + m.changes + ",workdir=" + filepath.Join(dir, "w")
	if err := syscall.Mount("overlay", m.root, "overlay", 0, layers); err != nil {
		t.Skipf("no overlay can be mounted over the root of this machine: %v", err)
	}
	for _, at := range []string{"dev", "proc", "sys"} {
		if err := syscall.Mount("/"+at, filepath.Join(m.root, at), "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			t.Fatal(err)
		}
	}
	// Scripts see a running systemd, and what they want of it is written down: a real one would need a machine of its
	// own. What is enabled is real: systemctl does that without systemd.
	if err := os.Link(m.path("/usr/bin/systemctl"), m.path("/usr/bin/systemctl-itself")); err != nil {
		t.Skipf("systemctl is not installed: %v", err)
	}
	m.write("/usr/bin/systemctl", strings.ReplaceAll(noSystemd, "CALLS", m.calls), 0o755)
	if err := os.MkdirAll(m.path("/run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 0\n", 0o755)
	m.write(m.calls, "", 0o644)
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) write(name, text string, mode os.FileMode) {
	m.t.Helper()
	_ = os.Remove(m.path(name)) // a link, perhaps
	if err := os.WriteFile(m.path(name), []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(name string) string {
	text, err := os.ReadFile(m.path(name))
	if err != nil {
		return ""
	}
	return string(text)
}

func (m *machine) exists(name string) bool {
	_, err := os.Lstat(m.path(name))
	return err == nil
}

// command is one that runs with the machine's root.
func (m *machine) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root, Setpgid: true}
	return cmd
}

// do runs a command, and gives what it prints and what systemctl was called with meanwhile.
func (m *machine) do(name string, args ...string) (out, calls string) {
	m.t.Helper()
	m.write(m.calls, "", 0o644)
	text, err := m.command(name, args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s %v: %v\n%s", name, args, err, text)
	}
	return string(text), m.read(m.calls)
}

// bring copies a file in.
func (m *machine) bring(from string) (name string) {
	m.t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	name = "/" + filepath.Base(from)
	m.write(name, string(text), 0o644)
	return name
}

// left are the paths that were changed, but for those with these beginnings.
func (m *machine) left(but ...string) (paths []string) {
	m.t.Helper()
	but = append(but, "/usr/bin/systemctl", "/usr/bin/systemctl-itself", "/usr/sbin/policy-rc.d", m.calls,
		"/run/systemd", "/proc", "/sys", "/dev", "/tmp", "/root/.")
	err := filepath.WalkDir(m.changes, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(at, m.changes), "/")
		if slices.ContainsFunc(but, func(b string) bool { return strings.HasPrefix(name, b) }) {
			return nil
		}
		if _, was := os.Lstat(name); d.IsDir() && was == nil {
			return nil // a directory that was there before, of which something else has changed
		}
		paths = append(paths, name)
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return paths
}

// live runs the installed agent with the installed configuration for a while, and gives how many samples its history
// has at the end.
func (m *machine) live(while time.Duration) float64 {
	m.t.Helper()
	// Flags win over the file; other agents may run on this machine.
	cmd := m.command("/usr/bin/pscope", "agent", "--config", "/etc/pscope/pscope.yaml", "--listen", "", "--mode",
		"snapshot", "--include", "^no such process$")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	time.Sleep(while)
	socket := m.path("/run/pscope/pscope.sock")
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	var samples float64
	var last error
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if samples, last = count(c); last == nil {
			break
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%v\n%s", last, &log)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		m.t.Errorf("the agent ends with %v\n%s", err, &log)
	}
	return samples
}

func count(c *http.Client) (float64, error) {
	resp, err := c.Get("http://agent/api/v1/query?query=" +
		url.QueryEscape("sum(count_over_time(process_cpu_seconds_total[1h]))"))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := json.Unmarshal(text, &answer); err != nil || len(answer.Data.Result) != 1 {
		return 0, errors.Join(err, fmt.Errorf("the history answers %s", text))
	}
	var v float64
	_, err = fmt.Sscan(fmt.Sprint(answer.Data.Result[0].Value[1]), &v)
	return v, err
}
