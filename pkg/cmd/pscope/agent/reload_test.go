//go:build linux

package agent

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reloading is a real agent, a process of its own, with a configuration file.
type reloading struct {
	t      *testing.T
	cmd    *exec.Cmd
	path   string
	base   string // of its file: what every version of it says
	socket string
	url    string
	log    *output
	ended  chan error
}

// startAgent starts a real agent; its log is shown where the test fails.
func startAgent(t *testing.T, flags ...string) (*exec.Cmd, *output) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd, log := exec.Command(self, flags...), &output{}
	cmd.Env = append(os.Environ(), asAgent+"=1")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Log(log)
		}
	})
	return cmd, log
}

func startReloading(t *testing.T, settings string, flags ...string) *reloading {
	t.Helper()
	dir := t.TempDir()
	a := &reloading{t: t, path: filepath.Join(dir, "pscope.yaml"), socket: filepath.Join(dir, "s"),
		ended: make(chan error, 1)}
	a.base = fmt.Sprintf("socket: %s\nlisten: 127.0.0.1:0\ndata-dir: %s\nmode: snapshot\nkeep-privileges: true\n",
		a.socket, filepath.Join(dir, "data"))
	a.write(settings)
	a.cmd, a.log = startAgent(t, append(flags, "--config", a.path)...)
	go func() { a.ended <- a.cmd.Wait() }()
	a.wait("the agent serves", func() bool { return strings.Contains(a.log.String(), " listen=") })
	_, rest, _ := strings.Cut(a.log.String(), " listen=")
	address, _, _ := strings.Cut(rest, " ")
	a.url = "http://" + address
	return a
}

// write changes the file.
func (a *reloading) write(settings string) {
	a.t.Helper()
	if err := os.WriteFile(a.path, []byte(a.base+settings), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// reload sends the signal and waits for what the agent logs then.
func (a *reloading) reload(says string) {
	a.t.Helper()
	before := strings.Count(a.log.String(), says)
	if err := a.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		a.t.Fatal(err)
	}
	a.wait(says, func() bool { return strings.Count(a.log.String(), says) > before })
}

func (a *reloading) wait(what string, ok func() bool) {
	a.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// get asks with an origin, and gives the body and whether the origin is allowed.
func (a *reloading) get(path, origin string) (string, bool) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.url+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text), resp.Header.Get("Access-Control-Allow-Origin") == origin
}

func (a *reloading) targets() string {
	text, _ := a.get("/metrics", "")
	var out []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "pscope_target_info") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func TestReload(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "pscope-reload-target")
	if out, err := exec.Command("go", "build", "-o", bin,
		"../../../collector/testdata/target").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	target := exec.Command(bin)
	in, err := target.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Process.Kill(); _ = target.Wait() }()

	const origin = "https://pages.example"
	a := startReloading(t, "include: ^no such process$\n")
	has := func(metric string) bool {
		text, _ := a.get("/metrics", "")
		return strings.Contains(text, metric)
	}
	const ok, failed = "pscope_config_last_reload_successful{", "pscope_config_last_reload_successful"
	result := func() string {
		text, _ := a.get("/metrics", "")
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, ok) {
				return strings.TrimSpace(line[strings.LastIndex(line, " "):])
			}
		}
		return "no " + failed
	}
	if result() != "1" || !has("pscope_config_last_reload_success_timestamp_seconds{") {
		t.Errorf("after the start: %s", result())
	}
	if _, allowed := a.get("/metrics", origin); allowed || strings.Contains(a.targets(), "pscope-reload-target") {
		t.Fatal("nothing was chosen yet")
	}

	// Another choice of processes, another level, another origin: without a restart.
	a.write("include: ^pscope-reload-target$\nallow-origins: " + origin + "\nlog-level: debug\n")
	a.reload(`changed="allow-origins, include, log-level"`)
	a.wait("the target is observed", func() bool { return strings.Contains(a.targets(), "pscope-reload-target") })
	if _, allowed := a.get("/metrics", origin); !allowed {
		t.Error("the origin is not let in")
	}

	// A wrong file changes nothing, and everybody hears of it.
	a.write("include: (\nlisen: x\n")
	a.reload("can't be used; the settings before stay in use")
	if result() != "0" {
		t.Errorf("after a wrong file: %s", result())
	}
	if !strings.Contains(a.targets(), "pscope-reload-target") {
		t.Error("the settings before are gone")
	}
	if l := lacks(t, a.socket); !strings.Contains(l, "pscope.yaml:6:") || !strings.Contains(l,
		"pscope.yaml:7:") || !strings.Contains(l, "--check") {
		t.Errorf("whoever asks the agent hears %s", l)
	}

	// So does one that names a file which can't be used.
	a.write("include: ^other$\ntoken-file: /nonexistent/token\n")
	a.reload("can't be used; the settings before stay in use")
	if !strings.Contains(a.targets(), "pscope-reload-target") {
		t.Error("half of a wrong file was taken")
	}

	// What needs a restart is named.
	a.write("include: ^other$\nretention: 1h\n")
	a.reload("need a restart")
	if l := lacks(t, a.socket); !strings.Contains(l, "need a restart: retention") {
		t.Errorf("whoever asks the agent hears %s", l)
	}
	a.wait("the target is no longer observed", func() bool {
		return !strings.Contains(a.targets(),
			"pscope-reload-target")
	})
	if result() != "1" {
		t.Errorf("after a good file: %s", result())
	}
	a.write("include: ^other$\n")
	a.reload("was read again")
	if l := lacks(t, a.socket); strings.Contains(l, "restart") {
		t.Errorf("nothing waits for a restart, but whoever asks the agent hears %s", l)
	}

	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-a.ended; err != nil {
		t.Error(err)
	}
}

// The agent tells what it logged last, and what the process that keeps the history did.
func TestLastLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := startReloading(t, "include: ^no such process$\n", "--data-dir", filepath.Join(file, "data"))
	a.wait("both logs", func() bool {
		text, _ := a.get("/-/log", "")
		return strings.Contains(text, "msg=observing") && strings.Contains(text, "the data directory can't be used")
	})
	l := &lastLog{}
	for i := range 100_000 {
		fmt.Fprintf(l, "line %d\n", i)
	}
	if s := l.String(); len(l.text) > 2*mostOfLog || len(s) > mostOfLog || !strings.HasPrefix(s, "line ") ||
		!strings.HasSuffix(s, "line 99999\n") {
		t.Errorf("%d bytes are kept, %d are told", len(l.text), len(s))
	}
}

// Without a configuration file a hangup ends the agent, cleanly.
func TestHangupWithoutAFileEnds(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	cmd, log := startAgent(t, "--socket", socket, "--listen", "", "--mode", "snapshot", "--include",
		"^no such process$",
		"--data-dir", filepath.Join(dir, "data"))
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(log.String(),
		"observing"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the agent does not start: %s", log)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, log)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket stays")
	}
}

// A hangup that comes while the agent starts or ends does not kill it.
func TestHangupsAtAnyTime(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pscope.yaml")
	settings := fmt.Sprintf("socket: %s\nlisten: \"\"\ndata-dir: %s\ninclude: ^no such process$\n",
		filepath.Join(dir, "s"), filepath.Join(dir, "data"))
	if err := os.WriteFile(path, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, log := startAgent(t, "--config", path)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	time.Sleep(300 * time.Millisecond) // a Go program that has not read its arguments yet can't know what to do
	told := false
	for begun := time.Now(); ; {
		_ = cmd.Process.Signal(syscall.SIGHUP)
		select {
		case err := <-ended:
			if !told || err != nil {
				t.Errorf("it ended, told to: %v; %v: %s", told, err, log)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
		if !told && strings.Contains(log.String(), "read again") {
			told = true
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("after a minute: told to end: %v; %s", told, log)
		}
	}
}

// What repeats itself does not fill the log of a real agent, and the log and a metric say how often it was.
func TestRepeatedMessagesOfAnAgentAreFolded(t *testing.T) {
	a := startReloading(t, "include: ^no such process$\n")
	a.write("include: (\n")
	const says, folded = "can't be used; the settings before stay in use", "pscope_log_messages_folded_total{"
	left := func() (n int) {
		text, _ := a.get("/metrics", "")
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, folded) {
				_, _ = fmt.Sscan(line[strings.LastIndex(line, " "):], &n)
			}
		}
		return n
	}
	sent := 0
	for left() < 10 {
		if sent++; sent > 1000 {
			t.Fatal("nothing is left out")
		}
		if err := a.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	out := left()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-a.ended
	if lines := strings.Count(a.log.String(), says); lines != 21 {
		t.Errorf("%d lines, want 20 and the one that sums up", lines)
	}
	if !strings.Contains(a.log.String(), fmt.Sprintf("and %d more like it in the last minute", out-1)) {
		t.Errorf("%d were left out, the log does not say so", out)
	}
}
