//go:build linux

package packages

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// repository is its top.
var repository = filepath.Join("..", "..")

// The versions that the packages bear. The first is the last release, built from its commit.
const (
	before = "0.1.0"
	now    = "99.0.0"
)

// madeIn is the folder with the packages, for the process of a test with mounts.
const madeIn = "PSCOPE_TEST_PACKAGES"

// missing is why there are none.
type missing struct{ why string }

func (e missing) Error() string { return e.why }

// made makes them once, for all tests.
var made = sync.OnceValues(func() (dir string, err error) {
	if dir = os.Getenv(madeIn); dir != "" {
		return dir, nil
	}
	if dir, err = os.MkdirTemp("", "pscope-packages-"); err != nil {
		return "", err
	}
	return dir, errors.Join(makePackages(dir), os.Setenv(madeIn, dir))
})

func TestMain(m *testing.M) {
	outer := os.Getenv(madeIn) == ""
	code := m.Run()
	if dir := os.Getenv(madeIn); outer && dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// packages gives a folder with those of the last release and of this source tree, of both formats.
func packages(t *testing.T) (dir string) {
	t.Helper()
	dir, err := made()
	if m := (missing{}); errors.As(err, &m) {
		t.Skip(m.why)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func makePackages(dir string) error {
	for _, tool := range []string{"node", "git"} {
		if _, err := exec.LookPath(tool); err != nil {
			return missing{tool + " is not installed: it makes the packages"}
		}
	}
	text, err := os.ReadFile(filepath.Join(repository, "proto", "released", "release.json"))
	if err != nil {
		return err
	}
	var last struct{ Version, Commit string }
	if err := json.Unmarshal(text, &last); err != nil {
		return err
	}
	if out, err := exec.Command("git", "-C", repository, "cat-file", "-e",
		last.Commit+"^{commit}").CombinedOutput(); err != nil {
		return missing{fmt.Sprintf("the last release can't be built: this clone lacks its commit %.10s, or there "+
			"is no "+
			"git (%s); fetch the whole "+
			"history", last.Commit, strings.TrimSpace(string(out)))}
	}
	tree := filepath.Join(dir, "tree")
	for _, args := range [][]string{
		{"mkdir", tree},
		{"git", "-C", repository, "archive", "--output", filepath.Join(dir, "tree.tar"), last.Commit},
		{"tar", "--extract", "--file", filepath.Join(dir, "tree.tar"), "--directory", tree},
	} {
		if err := run(".", args...); err != nil {
			return err
		}
	}
	for version, source := range map[string]string{before: tree, now: repository} {
		agent := filepath.Join(dir, "pscope-"+version)
		systemd, err := filepath.Abs(filepath.Join(source, "deploy", "systemd"))
		if err != nil {
			return err
		}
		err = errors.Join(
			run(source, "go", "build", "-trimpath", "-ldflags", "-w -X main.version="+version, "-o", agent,
				"./pkg/cmd/pscope"),
			run(repository, "node", "scripts/packages.mjs", "--version", version, "--arch", runtime.GOARCH, "--agent",
				agent,
				"--systemd", systemd, "--into", dir))
		if err != nil {
			return err
		}
	}
	return nil
}

func run(dir string, args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", args, err, out)
	}
	return nil
}

func file(dir, version, format string) string {
	return filepath.Join(dir, fmt.Sprintf("pscope_%s_%s.%s", version, runtime.GOARCH, format))
}

// grows runs the agent, and checks that nothing of its history was lost.
func (m *machine) grows(what string, samples *float64) {
	m.t.Helper()
	n := m.live(4 * time.Second)
	m.t.Logf("%s: %.0f samples", what, n)
	if n < *samples+1 {
		m.t.Errorf("%s: %.0f samples, there were %.0f before", what, n, *samples)
	}
	*samples = n
}

func (m *machine) wants(what string, ok bool) {
	m.t.Helper()
	if !ok {
		m.t.Errorf("not so: %s", what)
	}
}

// TestDeb: install, upgrade, go back, remove, install again, purge, by the real dpkg.
func TestDeb(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("dpkg is not installed")
	}
	dir := packages(t)
	withMounts(t, func(t *testing.T) {
		m := newMachine(t)
		old, young := m.bring(file(dir, before, "deb")), m.bring(file(dir, now, "deb"))
		// Nobody is there to be asked about changed configuration files.
		install := func(p string) string {
			_, calls := m.do("/usr/bin/dpkg", "--force-confdef", "--force-confold", "--install", p)
			return calls
		}
		const wanted = "/etc/systemd/system/multi-user.target.wants/pscope-agent.service"
		version := func() string { out, _ := m.do("/usr/bin/pscope", "version"); return strings.TrimSpace(out) }
		var samples float64

		calls := install(old)
		m.wants("the service is enabled and started: "+calls, m.exists(wanted) &&
			strings.Contains(calls, "start pscope-agent.service"))
		m.grows("installed, "+version(), &samples)
		if _, err := exec.LookPath("systemd-analyze"); err == nil {
			out, err := m.command("/usr/bin/systemd-analyze", "verify", "--man=no",
				"pscope-agent.service").CombinedOutput()
			m.wants("systemd takes the unit: "+string(out), err == nil &&
				!strings.Contains(string(out), "pscope-agent.service"))
		}

		m.write("/etc/pscope/pscope.yaml", m.read("/etc/pscope/pscope.yaml")+"\nlog-level: warn\n", 0o644)
		calls = install(young)
		m.wants("an upgrade restarts the service: "+calls, strings.Contains(calls, "restart pscope-agent.service"))
		m.wants("an upgrade brings the new version", strings.Contains(version(), now))
		m.wants("an upgrade keeps changed settings", strings.Contains(m.read("/etc/pscope/pscope.yaml"),
			"log-level: warn"))
		m.grows("upgraded, "+version(), &samples)

		calls = install(old)
		m.wants("going back restarts the service: "+calls, strings.Contains(calls, "restart pscope-agent.service"))
		m.wants("going back brings the old version", strings.Contains(version(), before))
		m.wants("going back keeps changed settings", strings.Contains(m.read("/etc/pscope/pscope.yaml"),
			"log-level: warn"))
		m.grows("went back, "+version(), &samples)

		install(young)
		m.grows("upgraded again", &samples)
		if err := os.MkdirAll(m.path("/run/pscope"), 0o755); err != nil { // a killed agent leaves its socket
			t.Fatal(err)
		}
		m.write("/run/pscope/pscope.sock", "", 0o660)
		_, calls = m.do("/usr/bin/dpkg", "--remove", "pscope")
		m.wants("removing stops the service: "+calls, strings.Contains(calls, "stop pscope-agent.service"))
		for _, gone := range []string{"/usr/bin/pscope", "/usr/lib/systemd/system/pscope-agent.service",
			"/usr/share/doc/pscope", "/run/pscope"} {
			m.wants("removing takes "+gone, !m.exists(gone))
		}
		m.wants("removing keeps the settings", strings.Contains(m.read("/etc/pscope/pscope.yaml"), "log-level: warn"))
		m.wants("removing keeps the history", m.exists("/var/lib/pscope"))

		install(young)
		m.wants("installed again, the service is enabled", m.exists(wanted))
		m.grows("installed again", &samples)

		// systemd keeps the state of a unit with DynamicUser= in another place.
		if err := os.MkdirAll(m.path("/var/lib/private/pscope/wal"), 0o700); err != nil {
			t.Fatal(err)
		}
		m.do("/usr/bin/dpkg", "--purge", "pscope")
		m.wants("purging takes the state of the unit", !m.exists("/var/lib/private/pscope"))
		for _, p := range []string{old, young} {
			_ = os.Remove(m.path(p))
		}
		if left := m.left("/var/lib/dpkg", "/var/log/dpkg.log", "/var/lib/systemd/deb-systemd-helper",
			"/var/lib/private", "/var/cache"); len(left) > 0 {
			t.Errorf("purging leaves %s", strings.Join(left, " "))
		}
		for _, d := range []string{"/var/lib/dpkg/info", "/var/lib/systemd"} {
			_ = filepath.Walk(m.path(d), func(at string, _ os.FileInfo, err error) error {
				if err == nil && strings.Contains(filepath.Base(at), "pscope") {
					t.Errorf("purging leaves %s", at)
				}
				return nil
			})
		}
		if out, err := m.command("/usr/bin/getent", "passwd", "pscope").Output(); err == nil {
			t.Errorf("purging leaves a user: %s", out)
		}
	})
}

// TestDisabledStaysDisabled: an upgrade does not start what somebody has switched off.
func TestDisabledStaysDisabled(t *testing.T) {
	if _, err := exec.LookPath("deb-systemd-helper"); err != nil {
		t.Skip("deb-systemd-helper is not installed")
	}
	dir := packages(t)
	withMounts(t, func(t *testing.T) {
		m := newMachine(t)
		_, calls := m.do("/usr/bin/dpkg", "--install", m.bring(file(dir, before, "deb")))
		m.wants("the service was started, so that it can be switched off: "+calls, m.exists(m.calls+".active"))
		const wanted = "/etc/systemd/system/multi-user.target.wants/pscope-agent.service"
		// What systemctl disable --now does.
		m.do("/usr/bin/systemctl", "stop", "pscope-agent.service")
		m.wants("it is stopped", !m.exists(m.calls+".active"))
		if err := os.Remove(m.path(wanted)); err != nil {
			t.Fatal(err)
		}
		_, calls = m.do("/usr/bin/dpkg", "--install", m.bring(file(dir, now, "deb")))
		m.wants("a disabled service stays disabled", !m.exists(wanted))
		m.wants("systemd was told of the new unit: "+calls, strings.Contains(calls, "daemon-reload"))
		m.wants("a stopped service is neither started nor restarted: "+calls,
			!strings.Contains(calls, " start ") && !strings.Contains(calls, "restart") &&
				!strings.HasPrefix(calls, "start ") && !strings.Contains(calls, "\nstart ") &&
				!m.exists(m.calls+".active"))
	})
}

// TestRPM: the same by rpm, which has no purge.
func TestRPM(t *testing.T) {
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Skip("rpm is not installed (Debian: apt-get install rpm)")
	}
	dir := packages(t)
	withMounts(t, func(t *testing.T) {
		m := newMachine(t)
		old, young := m.bring(file(dir, before, "rpm")), m.bring(file(dir, now, "rpm"))
		rpm := func(args ...string) string {
			_, calls := m.do("/usr/bin/rpm", append([]string{"--dbpath", "/var/lib/rpm-of-the-test", "--nodeps"},
				args...)...)
			return calls
		}
		var samples float64
		calls := rpm("--install", old)
		m.wants("presets decide: "+calls, strings.Contains(calls, "preset pscope-agent.service") &&
			!strings.Contains(calls, "start "))
		m.grows("installed", &samples)

		m.write("/etc/pscope/pscope.yaml", m.read("/etc/pscope/pscope.yaml")+"\nlog-level: warn\n", 0o644)
		calls = rpm("--upgrade", young)
		m.wants("an upgrade restarts the service, and neither stops nor disables it: "+calls,
			strings.Contains(calls, "try-restart pscope-agent.service") && !strings.Contains(calls, "disable"))
		m.wants("an upgrade keeps changed settings", strings.Contains(m.read("/etc/pscope/pscope.yaml"),
			"log-level: warn"))
		m.grows("upgraded", &samples)

		calls = rpm("--upgrade", "--oldpackage", old)
		m.wants("going back restarts the service: "+calls, strings.Contains(calls, "try-restart pscope-agent.service"))
		m.wants("going back keeps changed settings", strings.Contains(m.read("/etc/pscope/pscope.yaml"),
			"log-level: warn"))
		m.grows("went back", &samples)

		if err := os.MkdirAll(m.path("/run/pscope"), 0o755); err != nil {
			t.Fatal(err)
		}
		calls = rpm("--erase", "pscope")
		m.wants("removing stops and disables the service: "+calls, strings.Contains(calls, "disable --now "+
			"pscope-agent.service"))
		m.wants("removing keeps the history", m.exists("/var/lib/pscope"))
		if err := os.RemoveAll(m.path("/var/lib/pscope")); err != nil { // as docs/install.md says
			t.Fatal(err)
		}
		for _, p := range []string{old, young} {
			_ = os.Remove(m.path(p))
		}
		// rpm saves what was changed; so it is with every package.
		if left := m.left("/var/lib/rpm", "/etc/pscope/pscope.yaml.rpmsave",
			"/var/cache"); len(left) > 0 && strings.Join(left, " ") != "/etc/pscope" {
			t.Errorf("removing leaves %s", strings.Join(left, " "))
		}
	})
}
