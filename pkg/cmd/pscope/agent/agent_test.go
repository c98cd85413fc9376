//go:build linux

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
)

// start runs a whole agent in snapshot mode, which needs no privileges, and gives what it logs and a function that ends
// it.
func start(t *testing.T, args ...string) (log *lines, stop func() error) {
	t.Helper()
	c, err := ParseConfig(append([]string{"--keep-privileges", "--mode", "snapshot", "--include", "^no such process$"},
		args...), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	log = &lines{text: make(chan string, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, c, "test", slog.New(slog.NewTextHandler(log, nil)))
		close(done)
	}()
	stop = func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			t.Error("the agent does not end")
			return nil
		}
	}
	t.Cleanup(func() { _ = stop() })
	return log, stop
}

// lines is a log whose lines can be waited for.
type lines struct{ text chan string }

func (l *lines) Write(b []byte) (int, error) {
	select {
	case l.text <- string(b):
	default:
	}
	return len(b), nil
}

func (l *lines) wait(t *testing.T, part string) string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case s := <-l.text:
			if strings.Contains(s, part) {
				return s
			}
		case <-deadline:
			t.Fatalf("the agent does not log %q", part)
		}
	}
}

// get asks an agent over its socket.
func get(t *testing.T, socket, path string) int {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	r, err := c.Get("http://agent" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	return r.StatusCode
}

// lacks asks an agent what it lacks.
func lacks(t *testing.T, socket string) string {
	t.Helper()
	c, err := (&client.Options{Socket: socket}).Dial()
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.ListTargets(t.Context(), connect.NewRequest(&pb.ListTargetsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(res.Msg.GetAgent().GetLacks())
}

// TestMain: the test binary is the process that keeps the history, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "history" {
		if _, err := History(context.Background(), nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(asAgent) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		code, err := Run("test")(ctx, os.Args[1:])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func TestServesAndEndsCleanly(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	log, stop := start(t, "--socket", socket, "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"))
	log.wait(t, "mode=snapshot")
	for _, path := range []string{"/metrics", "/-/healthy", "/api/v1/query?query=1"} {
		if code := get(t, socket, path); code != http.StatusOK {
			t.Errorf("%s answers %d", path, code)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("a clean end gives %v", err)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket stays")
	}
}

func TestUnusableDataDirectoryCostsOnlyTheLastingHistory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	log, stop := start(t, "--socket", socket, "--listen", "", "--data-dir", filepath.Join(file, "data"))
	log.wait(t, "mode=snapshot")
	if code := get(t, socket, "/api/v1/query?query=1"); code != http.StatusOK {
		t.Errorf("history answers %d", code)
	}
	if why := lacks(t, socket); !strings.Contains(why, "data") || !strings.Contains(why, "--data-dir") {
		t.Errorf("the agent does not say what it lacks and what to do: %q", why)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "pscope-data-*")); len(left) > 0 {
		t.Errorf("%v stays", left)
	}
}

func TestASecondAgentIsToldWhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	log, _ := start(t, "--socket", socket, "--listen", "", "--data-dir", filepath.Join(dir, "a"))
	log.wait(t, "mode=snapshot")

	second, stop := start(t, "--socket", socket, "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "b"))
	if s := second.wait(t, "one of two only"); !strings.Contains(s, "another agent") {
		t.Errorf("%q does not name the agent in the way", s)
	}
	if s := second.wait(t, "mode=snapshot"); !strings.Contains(s, `socket=""`) {
		t.Errorf("%q names a socket that is another's", s)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}

	_, stop = start(t, "--socket", socket, "--listen", "", "--data-dir", filepath.Join(dir, "c"))
	time.Sleep(500 * time.Millisecond)
	if err := stop(); err == nil || !strings.Contains(err.Error(), "--socket") {
		t.Errorf("an agent that can serve nowhere ends with %v", err)
	}
	if code := get(t, socket, "/-/healthy"); code != http.StatusOK {
		t.Errorf("the first agent answers %d after the others", code)
	}
}

func TestNeverFallsBackToLessProtection(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "token")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--token-file", filepath.Join(dir, "absent")},
		{"--token-file", empty},
		{"--listen", ":0"},
		{"--tls-cert", filepath.Join(dir, "absent"), "--tls-key", filepath.Join(dir, "absent")},
	} {
		c, err := ParseConfig(append([]string{"--keep-privileges", "--mode", "snapshot", "--socket", "", "--listen",
			"127.0.0.1:0", "--data-dir", dir}, args...), os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		if err := serve(t.Context(), c, "test", slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%v: the agent serves without what was to protect it", args)
		}
	}
}

// TestInsecureIsSaid: in the log and to whoever asks what is missing, as `pscope doctor` does.
func TestInsecureIsSaid(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	log, _ := start(t, "--socket", socket, "--listen", ":0", "--insecure", "--data-dir", filepath.Join(dir, "data"))
	if s := log.wait(t, "level=WARN"); !strings.Contains(s, "--insecure") {
		t.Errorf("the log says %q", s)
	}
	log.wait(t, "mode=snapshot")
	ask, err := (&client.Options{Socket: socket}).Dial()
	if err != nil {
		t.Fatal(err)
	}
	list, err := ask.ListTargets(t.Context(), connect.NewRequest(&pb.ListTargetsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list.Msg.GetAgent().GetLacks() {
		if strings.HasPrefix(l.GetWhat(), "protection of") && strings.Contains(l.GetFix(), "--token-file") {
			return
		}
	}
	t.Errorf("it does not say that it lets anyone in: %v", list.Msg.GetAgent().GetLacks())
}
