package plugin

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
)

// viewer gathers what a stream sends.
type viewer struct {
	mu    sync.Mutex
	raw   []map[string]json.RawMessage
	times []time.Time
}

func (v *viewer) Send(p *backend.StreamPacket) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(p.Data, &m); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.raw, v.times = append(v.raw, m), append(v.times, time.Now())
	return nil
}

func (v *viewer) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.raw)
}

func (v *viewer) schemas() (out []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.raw {
		if s, ok := m["schema"]; ok {
			out = append(out, string(s))
		}
	}
	return out
}

func (v *viewer) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	t.Fatalf("%s never came; got %d messages, the last %s", what, len(v.raw), v.raw[max(0, len(v.raw)-1):])
}

// channelOf asks a live query and gives the path of the channel that continues it, and the history.
func channelOf(t *testing.T, d *Datasource, query string) (string, *data.Frame) {
	t.Helper()
	r := must(t, ask(t, d, query, 20*time.Second, nil))
	if len(r.Frames) != 1 || !strings.HasPrefix(r.Frames[0].Meta.Channel, "ds/pscope/") {
		t.Fatalf("%s: no channel in\n%s", query, describe(r))
	}
	return strings.TrimPrefix(r.Frames[0].Meta.Channel, "ds/pscope/"), r.Frames[0]
}

func (d *Datasource) view(t *testing.T, path string) (*viewer, func()) {
	t.Helper()
	v := &viewer{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.RunStream(ctx, &backend.RunStreamRequest{PluginContext: inOrg(1), Path: path},
			backend.NewStreamSender(v)); err != nil {
			t.Errorf("RunStream: %v", err)
		}
	}()
	leave := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(leave)
	return v, leave
}

// schemaFields gives what tells fields apart: names, types, labels, display names.
func schemaFields(t *testing.T, schema string) (out []string) {
	t.Helper()
	var s struct {
		Fields []struct {
			Name     string
			Type     string
			TypeInfo struct{ Frame string } `json:"typeInfo"`
			Labels   data.Labels
			Config   struct {
				Name string `json:"displayNameFromDS"`
			}
		}
	}
	if err := json.Unmarshal([]byte(schema), &s); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Fields {
		out = append(out, f.Name+" "+f.TypeInfo.Frame+" "+f.Labels.String()+" "+f.Config.Name)
	}
	return out
}

func TestStreamContinuesHistory(t *testing.T) {
	a := startAgent(t, "web-1", 2, 4)
	d := newDatasource(t, agentsJSON(a.url))
	a.fill(0, 4, time.Now().Add(-10*time.Second), time.Now())
	for _, query := range []string{
		`{"live":true}`,
		`{"kind":"heatmap","metric":"runq","target":{"process":"server-.*"},"live":true}`,
		`{"kind":"timeline","target":{"process":"server-0"},"live":true}`,
		`{"kind":"series","metric":"state","states":["running"],"by":["process","p"],"target":{"process":"server-1"},"live":true}`,
		`{"kind":"series","metric":"thread","by":["thread_state"],"live":true}`,
		`{"kind":"series","metric":"d_share","target":{"pid":"10.."},"live":true}`,
		`{"kind":"series","metric":"syscalls","target":{"process":"server-0"},"live":true}`,
		`{"kind":"series","editorMode":"code","expr":"sum by (process) (rate(pscope_p_seconds_total[5s]))","live":true}`,
	} {
		path, history := channelOf(t, d, query)
		v, leave := d.view(t, path)
		v.await(t, "the third row of "+query, func() bool { return v.count() >= 3 })
		leave()
		text, err := data.FrameToJSON(history, data.IncludeSchemaOnly)
		if err != nil {
			t.Fatal(err)
		}
		var h struct{ Schema json.RawMessage }
		if err := json.Unmarshal(text, &h); err != nil {
			t.Fatal(err)
		}
		schemas := v.schemas()
		if len(schemas) != 1 {
			t.Errorf("%s: the schema was sent %d times", query, len(schemas))
		}
		if got, want := schemaFields(t, schemas[0]), schemaFields(t, string(h.Schema)); !slices.Equal(got, want) {
			t.Errorf("%s:\nstream  %q\nhistory %q", query, got, want)
		}
	}
	if n := d.hub.Feeds(); n != 0 {
		t.Errorf("%d Watches are left open", n)
	}
}

func TestStreamRate(t *testing.T) {
	a := startAgent(t, "web-1", 1, 4)
	d := newDatasource(t, agentsJSON(a.url))
	path, _ := channelOf(t, d, `{"live":true,"rateHz":60}`)
	v, leave := d.view(t, path)
	time.Sleep(2200 * time.Millisecond)
	leave()
	if n := v.count(); n < 8 || n > 12 {
		t.Errorf("%d frames in 2.2 s; the rate is 5 a second", n)
	}
}

func TestStreamsShareAWatch(t *testing.T) {
	a := startAgent(t, "web-1", 1, 4)
	d := newDatasource(t, agentsJSON(a.url))
	for _, query := range []string{
		`{"kind":"heatmap","target":{"process":"server-0"},"live":true}`,
		`{"kind":"timeline","target":{"process":"server-0"},"live":true}`,
		`{"kind":"heatmap","target":{"process":"server-0"},"ps":"0-1","live":true}`,
	} {
		path, _ := channelOf(t, d, query)
		v, _ := d.view(t, path)
		v.await(t, "a row", func() bool { return v.count() > 0 })
	}
	if n := d.hub.Feeds(); n != 1 {
		t.Errorf("three streams of one target use %d Watches", n)
	}
}

func TestStreamSurvivesTheAgent(t *testing.T) {
	a, b := startAgent(t, "web-1", 1, 2), startAgent(t, "web-2", 1, 2)
	d := newDatasource(t, agentsJSON(a.url, b.url))
	path, _ := channelOf(t, d, `{"kind":"heatmap","target":{"process":".*"},"live":true}`)
	v, _ := d.view(t, path)
	v.await(t, "a row with four lanes", func() bool {
		return slices.ContainsFunc(v.schemas(), func(s string) bool { return strings.Count(s, `"p":`) == 4 })
	})
	b.stop()
	v.await(t, "a notice", func() bool {
		s := v.schemas()
		return strings.Contains(s[len(s)-1], "connecting again")
	})
	n := v.count()
	v.await(t, "more rows of the agent that stayed", func() bool { return v.count() > n+3 })
	if s := v.schemas(); strings.Count(s[len(s)-1], `"p":`) != 4 {
		t.Errorf("the past of the other agent is lost: the last schema is %s", s[len(s)-1])
	}
}

// row is the newest row a viewer got: its values without the time.
func (v *viewer) row(t *testing.T) []any {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	var d struct{ Values [][]any }
	if err := json.Unmarshal(v.raw[len(v.raw)-1]["data"], &d); err != nil {
		t.Fatal(err)
	}
	var row []any
	for _, column := range d.Values[1:] {
		row = append(row, column[len(column)-1])
	}
	return row
}

func TestEndedLanesStayInTheStream(t *testing.T) {
	for _, query := range []string{
		`{"kind":"heatmap","target":{"process":"server-.*"},"live":true}`,
		`{"kind":"timeline","target":{"process":"server-.*"},"live":true}`,
		`{"kind":"series","metric":"d_share","live":true}`,
		`{"kind":"series","metric":"syscalls","live":true}`, // comes from the store
	} {
		// server-0 ended while nobody watched.
		a := startAgentAfter(t, "web-1", 2, 2, func(s *viewtest.Source, ago time.Duration) {
			if ago < 10*time.Second {
				s.End(0)
			}
		})
		a.fill(0, 2, time.Now().Add(-15*time.Second), time.Now().Add(-10*time.Second))
		a.fill(1, 2, time.Now().Add(-15*time.Second), time.Now())
		d := newDatasource(t, agentsJSON(a.url))
		path, history := channelOf(t, d, query)
		if n := len(history.Fields); n != 5 {
			t.Fatalf("%s: history has %d fields, want the time and four lanes", query, n)
		}
		v, _ := d.view(t, path)
		v.await(t, "a row of "+query, func() bool { return v.count() > 1 })
		if row := v.row(t); len(row) != 4 || row[0] != nil || row[1] != nil || row[2] == nil || row[3] == nil {
			t.Errorf("%s: the row is %v, want nothing for the two lanes that ended and values for the others", query,
				row)
		}
		// Then the other ends, too, while somebody watches.
		a.source.End(1)
		v.await(t, "an empty row of "+query, func() bool {
			return !slices.ContainsFunc(v.row(t), func(value any) bool { return value != nil })
		})
		n := v.count()
		v.await(t, "time going on in "+query, func() bool { return v.count() > n })
		if s := v.schemas(); len(s) != 1 {
			t.Errorf("%s: the schema changed when processes ended: sent %d times, the last %s", query, len(s),
				s[len(s)-1])
		}
	}
}

func TestSubscribe(t *testing.T) {
	a := startAgent(t, "web-1", 1, 2)
	d := newDatasource(t, agentsJSON(a.url))
	path, _ := channelOf(t, d, `{"live":true}`)
	subscribe := func(org int64, path string) *backend.SubscribeStreamResponse {
		r, err := d.SubscribeStream(t.Context(), &backend.SubscribeStreamRequest{PluginContext: inOrg(org), Path: path})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := subscribe(1, path); r.Status != backend.SubscribeStreamStatusOK || r.InitialData != nil {
		t.Errorf("first viewer: %+v", r)
	}
	if r := subscribe(2, path); r.Status != backend.SubscribeStreamStatusPermissionDenied {
		t.Errorf("another organisation: %+v", r)
	}
	if r := subscribe(1, "1/xyz"); r.Status != backend.SubscribeStreamStatusNotFound {
		t.Errorf("a forged path: %+v", r)
	}
	if err := d.RunStream(t.Context(), &backend.RunStreamRequest{PluginContext: inOrg(2), Path: path},
		nil); err == nil {
		t.Error("RunStream for another organisation ran")
	}
	v, _ := d.view(t, path)
	v.await(t, "a row", func() bool { return v.count() > 0 })
	r := subscribe(1, path)
	if r.InitialData == nil || len(v.schemas()) != 1 {
		t.Fatalf("who joins a running stream gets no schema: %+v", r)
	}
	var joined struct{ Schema json.RawMessage }
	if err := json.Unmarshal(r.InitialData.Data(), &joined); err != nil {
		t.Fatal(err)
	}
	if got, want := schemaFields(t, string(joined.Schema)), schemaFields(t, v.schemas()[0]); !slices.Equal(got, want) {
		t.Errorf("who joins gets other names and colours than who was there:\nlate  %q\nearly %q", got, want)
	}
	if !strings.Contains(string(joined.Schema), `"displayNameFromDS"`) {
		t.Errorf("no field of the schema has a name to show: %s", joined.Schema)
	}
	if r, err := d.PublishStream(t.Context(), &backend.PublishStreamRequest{}); err != nil ||
		r.Status != backend.PublishStreamStatusPermissionDenied {
		t.Errorf("publishing: %+v, %v", r, err)
	}
}
