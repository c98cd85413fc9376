//go:build linux

package plugin

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
)

// engines are the Prometheus-compatible programs that scrape an agent here as they do in production, where they are
// installed.
var engines = map[string]func(dir, scrape string, port int) *exec.Cmd{
	"prometheus": func(dir, scrape string, port int) *exec.Cmd {
		return exec.Command("prometheus", "--config.file", scrape, "--storage.tsdb.path", filepath.Join(dir, "data"),
			"--web.listen-address", fmt.Sprintf("127.0.0.1:%d", port), "--enable-feature=native-histograms")
	},
	"victoria-metrics": func(dir, scrape string, port int) *exec.Cmd {
		return exec.Command("victoria-metrics", "-promscrape.config", scrape, "-storageDataPath",
			filepath.Join(dir, "data"),
			"-httpListenAddr", fmt.Sprintf("127.0.0.1:%d", port), "-search.latencyOffset", "0s", "-search.disableCache")
	},
}

// startEngine runs one that scrapes the agent every second; it is ended with the test.
func startEngine(t *testing.T, name, agentURL string) (url string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	dir := t.TempDir()
	scrape := filepath.Join(dir, "scrape.yml")
	text := "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: pscope, honor_labels: true, static_configs: " +
		"[{targets: ['" + strings.TrimPrefix(agentURL, "http://") + "']}]}]\n"
	if err := os.WriteFile(scrape, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	cmd := engines[name](dir, scrape, port)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%.3000s", name, log.String())
		}
	})
	return "http://127.0.0.1:" + strconv.Itoa(port)
}

// eventually repeats a check until it says nothing; the last it said is the failure.
func eventually(t *testing.T, patience time.Duration, check func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		why := check()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(why)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func TestRealEngines(t *testing.T) {
	for name := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startAgent(t, "web-1", 2, 4)
			url := startEngine(t, name, a.url)
			defer http.DefaultClient.CloseIdleConnections()
			d := newDatasource(t, `{"mode":"engine","engineUrl":"`+url+`","agents":["`+a.url+
				`"],"scrapeInterval":"1s"}`)
			eventually(t, time.Minute, func() string {
				r, h := checkHealth(t, d)
				if r.Status != backend.HealthStatusOk || h.Engine == nil || h.Engine.Agents != 1 {
					return r.Message
				}
				return ""
			})
			for query, want := range map[string]string{
				`{"kind":"heatmap","target":{"process":"server-0"}}`:                                      "P3",
				`{"kind":"series","metric":"state","by":["state"]}`:                                       "running",
				`{"kind":"series","metric":"wake_wait","by":["process"]}`:                                 "server-0",
				`{"kind":"heatmap","metric":"wake_wait"}`:                                                 "yMax",
				`{"kind":"series","metric":"imbalance"}`:                                                  "server-1",
				`{"kind":"series","editorMode":"code","expr":"sum by (process) (go_runtime_gomaxprocs)"}`: "server-1",
				`{"kind":"timeline","target":{"process":"server-0"}}`:                                     "P3",
			} {
				eventually(t, 30*time.Second, func() string {
					res := ask(t, d, query, 30*time.Second, nil)
					if res.Error != nil {
						return fmt.Sprintf("%s: %v", query, res.Error)
					}
					for _, f := range res.Frames {
						for _, field := range f.Fields {
							shown := field.Name
							if field.Config != nil {
								shown += " " + field.Config.DisplayNameFromDS
							}
							if strings.Contains(shown, want) && field.Len() > 0 {
								return ""
							}
						}
					}
					return fmt.Sprintf("%s: no field of %q with values in\n%s", query, want, describe(res))
				})
			}
			r := call(t.Context(), t, d, "GET", "label-values?label=process", nil, nil)
			if got := strings.TrimSpace(string(r.body())); got != `["server-0","server-1"]` {
				t.Errorf("processes: %s", got)
			}
		})
	}
}
