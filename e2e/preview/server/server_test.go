package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// bin holds a small real plugin and the preview itself, built once.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "preview-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = dir
		for name, pkg := range map[string]string{"plugin": "./testdata/plugin", "preview": "."} {
			if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name),
				pkg).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "building %s: %v\n%s", pkg, err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// provision writes a provisioning folder with one P-Scope data source, one foreign one and one board.
func provision(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for path, content := range map[string]string{
		"datasources/a.yaml": `
apiVersion: 1
datasources:
  - name: P-Scope
    uid: pscope
    type: pscope-pscope-datasource
    jsonData: {mode: local, socketPath: "$PREVIEW_TEST_SOCKET"}
    secureJsonData: {token: "a$$b"}
  - name: Prometheus
    uid: prom
    type: prometheus
`,
		"dashboards/default.yaml":    "apiVersion: 1\n",
		"dashboards/board.json":      `{"title":"B","panels":[]}`,
		"dashboards/deep/board.json": `{"title":"A","panels":[]}`,
		"dist/plugin.json":           `{"id":"pscope-pscope-datasource"}`,
		"page/index.html":            "page",
	} {
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// start runs the preview's server in this process with the small plugin.
func start(t *testing.T) (string, *server) {
	t.Helper()
	t.Setenv("PREVIEW_TEST_SOCKET", "/run/x.sock")
	dir := provision(t)
	set, err := readDataSources(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	host := newPluginHost(filepath.Join(bin, "plugin"), nil, log)
	done := make(chan struct{})
	go func() { defer close(done); host.Run(ctx) }()
	s := newServer(ctx, host, set, dir, filepath.Join(dir, "dist"), filepath.Join(dir, "page"), log)
	web := httptest.NewServer(s.handler())
	t.Cleanup(func() { cancel(); <-done; web.CloseClientConnections(); web.Close() })
	return web.URL, s
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func query(t *testing.T, base, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest("POST", base+"/api/ds/query", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("FromAlert", "true")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

func TestQuery(t *testing.T) {
	base, _ := start(t)
	const ds = `"datasource":{"uid":"pscope"}`
	for _, c := range []struct {
		name, body string
		status     int
		want       []string
	}{
		{"frames", `{"from":"1000","to":"2000","queries":[{"refId":"Q",` + ds + `,"intervalMs":250}]}`, 200,
			[]string{`"Q"`, `[1000,2000]`, `"/run/x.sock"`, `["true","250ms"]`}},
		{"a failing query beside a good one", `{"from":"now-1h","to":"now","queries":[{"refId":"A",` + ds +
			`},{"refId":"B","queryType":"fail",` + ds + `}]}`, 400, []string{`as asked`, `"frames":[{"schema"`}},
		{"unknown data source", `{"from":"now-1h","to":"now","queries":[{"refId":"A","datasource":{"uid":"x"}}]}`, 404,
			[]string{`there are: pscope`}},
		{"no query", `{"from":"now-1h","to":"now"}`, 400, []string{"no query"}},
		{"bad range", `{"from":"yesterdayish","to":"now","queries":[{}]}`, 400, []string{"yesterdayish"}},
		{"no JSON", `{`, 400, []string{"not valid JSON"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := query(t, base, c.body)
			if status != c.status {
				t.Errorf("status %d, want %d: %s", status, c.status, body)
			}
			for _, want := range c.want {
				if !strings.Contains(body, want) {
					t.Errorf("answer lacks %s: %s", want, body)
				}
			}
		})
	}
}

func TestSettings(t *testing.T) {
	base, s := start(t)
	status, body := get(t, base+"/preview/boot")
	var boot struct {
		Datasources []map[string]any
		Dashboards  []struct{ Title string }
	}
	if err := json.Unmarshal([]byte(body), &boot); err != nil || status != 200 {
		t.Fatalf("boot: %d %v %s", status, err, body)
	}
	if len(boot.Datasources) != 1 || len(boot.Dashboards) != 2 || boot.Dashboards[0].Title != "A" {
		t.Errorf("boot holds other sources or boards than provisioned: %s", body)
	}
	if strings.Contains(body, "a$b") || !strings.Contains(body, `"secureJsonFields":{"token":true}`) {
		t.Errorf("a secret must be named, never shown: %s", body)
	}
	if d, err := s.settings.Get("pscope"); err != nil || d.SecureJSONData["token"] != "a$b" {
		t.Errorf("$$ stands for a dollar: %v %v", d.SecureJSONData, err)
	}
	if status, body = get(t, base+"/api/datasources/uid/pscope/health"); status != 200 ||
		!strings.Contains(body, "/run/x.sock") || !strings.Contains(body, `"path":""`) {
		t.Errorf("health with the provisioned socket and no PATH: %d %s", status, body)
	}
	req, err := http.NewRequest("PUT", base+"/api/datasources/uid/pscope",
		strings.NewReader(`{"jsonData":{"socketPath":"gone"}}`))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if status, body = get(t, base+"/api/datasources/uid/pscope/health"); status != 400 ||
		!strings.Contains(body, "socket gone") {
		t.Errorf("health after the change: %d %s", status, body)
	}
	if status, _ = get(t, base+"/api/annotations"); status != 404 {
		t.Errorf("an unknown API path answered %d", status)
	}
}

func TestResourceStreams(t *testing.T) {
	base, _ := start(t)
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "POST", base+"/api/datasources/uid/pscope/resources/a/b?x=1",
		strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Cookie", "session=1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusAccepted || res.Header.Get("X-Kind") != "numbers" {
		t.Errorf("status %d, headers %v", res.StatusCode, res.Header)
	}
	lines := bufio.NewScanner(res.Body)
	if lines.Scan(); lines.Text() != `POST a/b?x=1 body []` {
		t.Errorf("the plugin saw %q", lines.Text())
	}
	var gaps time.Duration
	for n := range 10 {
		began := time.Now()
		if !lines.Scan() || lines.Text() != fmt.Sprint(n) {
			t.Fatalf("line %d: %q %v", n, lines.Text(), lines.Err())
		}
		gaps = max(gaps, time.Since(began))
	}
	// Chunks come every 20 ms. Buffered, they would come together and late.
	if gaps > 200*time.Millisecond {
		t.Errorf("a chunk came after %v", gaps)
	}
	cancel()
	if _, body := get(t, base+"/api/datasources/uid/pscope/resources/left"); body != "yes" {
		t.Error("the plugin did not learn that the page went away")
	}
}

func TestLiveStreams(t *testing.T) {
	base, s := start(t)
	if _, err := websocket.Dial("ws"+base[len("http"):]+"/preview/live", "", "http://elsewhere.example/"); err == nil {
		t.Error("a foreign origin could read the streams")
	}
	ws, err := websocket.Dial("ws"+base[len("http"):]+"/preview/live", "", base)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	send := func(req liveRequest) {
		t.Helper()
		if err := websocket.JSON.Send(ws, req); err != nil {
			t.Fatal(err)
		}
	}
	next := func() liveMessage {
		t.Helper()
		var m liveMessage
		if err := ws.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := websocket.JSON.Receive(ws, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	send(liveRequest{Op: "subscribe", Channel: "ds/pscope/unknown", UID: "pscope", Path: "unknown"})
	if m := next(); !strings.Contains(m.Error, "no such stream") {
		t.Errorf("unknown stream: %+v", m)
	}
	send(liveRequest{Op: "subscribe", Channel: "ds/pscope/a", UID: "pscope", Path: "a"})
	for range 5 {
		if m := next(); m.Channel != "ds/pscope/a" || !strings.Contains(string(m.Frame), `"pid"`) {
			t.Fatalf("frame: %+v", m)
		}
	}
	pid, _ := s.host.Status()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for m := next(); m.Error == ""; m = next() { // the break is said
	}
	for m := next(); len(m.Frame) == 0; m = next() { // and mended
	}
	if again, starts := s.host.Status(); again == pid || starts < 2 {
		t.Errorf("plugin %d after %d starts", again, starts)
	}
	send(liveRequest{Op: "unsubscribe", Channel: "ds/pscope/a"})
	for deadline := time.Now().Add(10 * time.Second); s.live.Streams() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the stream runs on without a viewer")
		}
	}
}

func TestSlowPageLosesOldestAndIsTold(t *testing.T) {
	s := &liveSocket{wake: make(chan struct{}, 1), dropped: map[string]uint64{}}
	for n := range liveQueue + 5 {
		s.push(liveMessage{Channel: "a", Frame: json.RawMessage(fmt.Sprint(n))})
	}
	var frames []string
	var dropped uint64
	for m, ok := s.pop(); ok; m, ok = s.pop() {
		frames = append(frames, string(m.Frame))
		dropped += m.Dropped
	}
	if len(frames) != liveQueue || frames[len(frames)-1] != fmt.Sprint(liveQueue+4) || dropped != 5 {
		t.Errorf("%d frames up to %s, %d said to be dropped", len(frames), frames[len(frames)-1], dropped)
	}
}

// alive reports whether a process exists that is not just waiting to be reaped.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	rest := string(stat[strings.LastIndexByte(string(stat), ')')+2:])
	return rest[0] != 'Z'
}

func TestPluginNeverOutlivesThePreview(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := provision(t)
			cmd := exec.Command(filepath.Join(bin, "preview"), "--port", "0", "--provisioning", dir, "--dist",
				filepath.Join(dir, "dist"),
				"--page", filepath.Join(dir, "page"), "--plugin", filepath.Join(bin, "plugin"), "--agent-socket",
				"/own.sock")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = t.Output()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			base := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "preview: "), "/")
			if _, body := get(t, base+"/api/datasources/uid/pscope/health"); !strings.Contains(body, "/own.sock") {
				t.Errorf("--agent-socket is not used: %s", body)
			}
			_, body := get(t, base+"/preview/status")
			var status struct{ PluginPid json.Number }
			if err := json.Unmarshal([]byte(body), &status); err != nil {
				t.Fatal(err)
			}
			if !alive(status.PluginPid.String()) {
				t.Fatalf("the plugin does not run: %s", body)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if sig != syscall.SIGKILL && err != nil {
				t.Errorf("the preview ended with %v", err)
			}
			for deadline := time.Now().Add(5 * time.Second); alive(status.PluginPid.String()); time.Sleep(
				20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the plugin is still there")
				}
			}
		})
	}
}

func TestProvisioningThatCanNotBeUsed(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"no P-Scope source", "datasources: [{name: x, type: prometheus, uid: p}]", "no data source of type"},
		{"no uid", "datasources: [{name: x, type: pscope-pscope-datasource}]", "has no uid"},
		{"broken", "datasources: [", "not valid YAML"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "datasources"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "datasources", "a.yaml"), []byte(c.yaml), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := readDataSources(dir, ""); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := readDataSources(filepath.Join(t.TempDir(), "none"), ""); err == nil {
		t.Error("a missing folder is no error")
	}
}
