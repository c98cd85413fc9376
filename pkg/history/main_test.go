//go:build linux

package history

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/store"
)

// The test binary is the child, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "history" {
		err := RunChild(ChildOptions{Log: func(l slog.Level) *slog.Logger {
			return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l}))
		}})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// kept is a history with a real child, to which states are handed over at will or by the clock.
type kept struct {
	*Supervisor
	t   testing.TB
	srv *httptest.Server
	src *viewtest.Source
}

func keep(t testing.TB, change func(o *Options)) *kept {
	t.Helper()
	o := Options{Store: store.Options{Dir: t.TempDir(), Host: "h", Retention: 7 * 24 * time.Hour, MaxBytes: -1},
		MemoryLimit: 160 << 20, Confine: true,
		LogLevel: slog.LevelError, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&o)
	}
	k := &kept{Start(o), t, nil, viewtest.New(2, 8, time.Now().Add(-time.Hour))}
	t.Cleanup(k.Close)
	k.srv = httptest.NewServer(k.Handler())
	t.Cleanup(k.srv.Close)
	return k
}

// put hands over a state of the given moment.
func (k *kept) put(at time.Time) { k.queue.put(at.UnixMilli(), k.views(at)) }

func (k *kept) views(at time.Time) metrics.Snapshot {
	return metrics.Snapshot{Views: k.src.Views(at), Targets: k.src.Targets(), Mode: "ebpf"}
}

// settle waits until the child has answered for everything.
func (k *kept) settle() {
	k.t.Helper()
	eventually(k.t, "the child to take everything", func() bool { n, _ := k.queue.state(); return n == 0 })
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// get asks the history and gives status and text.
func (k *kept) get(path string, form url.Values) (int, string) {
	k.t.Helper()
	r, err := http.Get(k.srv.URL + path + "?" + form.Encode())
	if err != nil {
		k.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// value is a query's only number; 0 if there is none.
func (k *kept) value(at time.Time, query string) float64 {
	k.t.Helper()
	code, body := k.get("/api/v1/query",
		url.Values{"query": {query}, "time": {strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)}})
	var a struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil || code != http.StatusOK {
		k.t.Fatalf("%s: %d %.200s", query, code, body)
	}
	if len(a.Data.Result) == 0 {
		return 0
	}
	v, _ := strconv.ParseFloat(a.Data.Result[0].Value[1].(string), 64)
	return v
}

// childPID is the running child's.
func (k *kept) childPID() int {
	k.t.Helper()
	eventually(k.t, "a child", func() bool { return k.pid() != 0 })
	return k.pid()
}

// anonymous is how much memory of its own a process has, bytes.
func anonymous(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

func readLimits(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
