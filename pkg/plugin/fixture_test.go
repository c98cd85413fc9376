package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	"github.com/p-scope/p-scope/pkg/api"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/pstate"
	"github.com/p-scope/p-scope/pkg/store"
	"github.com/p-scope/p-scope/pkg/store/promapi"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// liveAgent is a whole agent but for its eyes: the real server, store and ring, over made-up targets.
type liveAgent struct {
	source *viewtest.Source
	ring   *timeline.Store
	url    string
	socket string
	stop   func()
}

// startAgent runs an agent with targets that are a minute old and whose history is in the store.
func startAgent(t testing.TB, host string, targets, ps int) *liveAgent {
	t.Helper()
	return startAgentAfter(t, host, targets, ps, func(*viewtest.Source, time.Duration) {})
}

// startAgentAfter is startAgent for targets to which things have happened: before each second of the minute is stored,
// happen is told how long ago it was.
func startAgentAfter(t testing.TB, host string, targets, ps int,
	happen func(s *viewtest.Source, ago time.Duration)) *liveAgent {
	t.Helper()
	began := time.Now().Add(-time.Minute)
	a := &liveAgent{source: viewtest.New(targets, ps, began), ring: timeline.New(timeline.Options{}),
		socket: filepath.Join(t.TempDir(), "pscope.sock")}
	db, err := store.Open(store.Options{Dir: t.TempDir(), Host: host, Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	for at := began.Add(time.Second).Truncate(time.Second); at.Before(time.Now()); at = at.Add(time.Second) {
		happen(a.source, time.Since(at))
		if err := db.Append(at, &metrics.Snapshot{Views: a.source.Views(at), Targets: a.source.Targets(),
			Mode: "ebpf"}); err != nil {
			t.Fatal(err)
		}
	}
	answers := promapi.New(db, promapi.Options{Version: "1.2.3"})
	history := struct {
		*store.Store
		*promapi.API
	}{db, answers}
	s, err := api.NewServer(api.Options{Collector: a.source, Timeline: a.ring, Store: history, Host: host,
		Version: "1.2.3", Listen: "127.0.0.1:0", Socket: a.socket, Sys: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(ctx); err != nil {
			t.Errorf("the agent: %v", err)
		}
	}()
	stopped := false
	a.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
			_ = answers.Close()
			_ = db.Close()
		}
	}
	t.Cleanup(a.stop)
	a.url = "http://" + s.Addr().String()
	for range 200 {
		if res, err := http.Get(a.url + "/-/ready"); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return a
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the agent never became ready")
	return nil
}

// fill puts intervals of the last seconds into the ring: every P alternates between running and idle, and P1 is in D
// once.
func (a *liveAgent) fill(target int, ps int, from, to time.Time) {
	key := a.source.Key(target)
	for p := range ps {
		var ivs []pstate.Interval
		for at := from; at.Before(to); at = at.Add(100 * time.Millisecond) {
			iv := pstate.Interval{P: int32(p), State: pstate.Running, Thread: pstate.OnCPU, Start: at.UnixNano(),
				End: at.Add(60 * time.Millisecond).UnixNano()}
			if p == 1 && at.Equal(from) {
				iv.Thread = pstate.Uninterruptible
			}
			ivs = append(ivs, iv, pstate.Interval{P: int32(p), State: pstate.Idle, Start: iv.End,
				End: at.Add(100 * time.Millisecond).UnixNano()})
		}
		a.ring.Append(key, ivs)
	}
}

// newDatasource makes a data source, closed with the test.
func newDatasource(t testing.TB, jsonData string) *Datasource {
	t.Helper()
	i, err := New(t.Context(), backend.DataSourceInstanceSettings{UID: "pscope", JSONData: []byte(jsonData)})
	if err != nil {
		t.Fatal(err)
	}
	d := i.(*Datasource)
	t.Cleanup(d.Dispose)
	return d
}

func agentsJSON(urls ...string) string {
	text, _ := json.Marshal(map[string]any{"mode": "agents", "agents": urls})
	return string(text)
}

// ask sends one query over the last while.
func ask(t testing.TB, d backend.QueryDataHandler, query string, while time.Duration,
	headers map[string]string) backend.DataResponse {
	t.Helper()
	now := time.Now()
	resp, err := d.QueryData(t.Context(), &backend.QueryDataRequest{
		PluginContext: inOrg(1),
		Headers:       headers,
		Queries: []backend.DataQuery{{RefID: "A", JSON: []byte(query), MaxDataPoints: 100, Interval: time.Second,
			TimeRange: backend.TimeRange{From: now.Add(-while), To: now}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Responses["A"]
}

func must(t testing.TB, r backend.DataResponse) backend.DataResponse {
	t.Helper()
	if r.Error != nil {
		t.Fatal(r.Error)
	}
	for _, f := range r.Frames {
		rows := -1
		for _, field := range f.Fields {
			if rows >= 0 && field.Len() != rows {
				t.Fatalf("fields of unequal length in %s", describe(r))
			}
			rows = field.Len()
		}
	}
	return r
}

func describe(r backend.DataResponse) string {
	text := ""
	for _, f := range r.Frames {
		table, _ := f.StringTable(100, 5)
		text += table + "\n"
		if f.Meta != nil {
			text += fmt.Sprintf("%s %v %s\n", f.Meta.Type, f.Meta.Notices, f.Meta.Channel)
		}
	}
	return text
}

// inOrg is the context of a request by someone of an organisation.
func inOrg(org int64) backend.PluginContext {
	pc := backend.PluginContext{DataSourceInstanceSettings: &backend.DataSourceInstanceSettings{UID: "pscope"}}
	//lint:ignore SA1019 see orgOf
	pc.OrgID = org
	return pc
}
