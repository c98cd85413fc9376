package plugin

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	"github.com/p-scope/p-scope/pkg/pstate"
)

func checkHealth(t *testing.T, d *Datasource) (*backend.CheckHealthResult, Health) {
	t.Helper()
	r, err := d.CheckHealth(t.Context(), &backend.CheckHealthRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var h Health
	if err := json.Unmarshal(r.JSONDetails, &h); err != nil {
		t.Fatal(err)
	}
	return r, h
}

func TestHealth(t *testing.T) {
	a := startAgent(t, "web-1", 2, 4)
	a.source.Refused = []pstate.Target{{Key: pstate.Key{PID: 5, StartTime: 5}, Process: "old",
		Source: pstate.SourceRefused, Reason: "too old"}}
	r, h := checkHealth(t, newDatasource(t, agentsJSON(a.url)))
	for _, want := range []string{"1.2.3", "web-1", "6.18.0", "2 Go processes", "eBPF", "1 can't be observed"} {
		if !strings.Contains(r.Message, want) {
			t.Errorf("%q lacks %q", r.Message, want)
		}
	}
	if r.Status != backend.HealthStatusOk || len(h.Agents) != 1 || h.Agents[0].Observed != 2 ||
		h.Agents[0].Refused != 1 {
		t.Errorf("%v %+v", r.Status, h)
	}
	// This agent has no CPU frequencies: what is missing is said with its remedy.
	if l := h.Agents[0].Lacks; len(l) != 1 || l[0].Fix == "" || !strings.Contains(r.Message, l[0].Fix[1:20]) {
		t.Errorf("lacks %+v, message %q", l, r.Message)
	}

	b := startAgent(t, "web-2", 1, 1)
	d := newDatasource(t, agentsJSON(a.url, b.url))
	b.stop()
	if r, h = checkHealth(t, d); r.Status != backend.HealthStatusOk || h.Agents[1].OK ||
		!strings.Contains(r.Message, "nothing listens") {
		t.Errorf("one of two away: %v %q", r.Status, r.Message)
	}
	a.stop()
	if r, _ = checkHealth(t, d); r.Status != backend.HealthStatusError {
		t.Errorf("all away: %v %q", r.Status, r.Message)
	}
	if r, _ = checkHealth(t, newDatasource(t,
		`{"mode":"engine","engineUrl":"x y"}`)); r.Status != backend.HealthStatusError ||
		!strings.Contains(r.Message, "engineUrl") {
		t.Errorf("unusable settings: %v %q", r.Status, r.Message)
	}
}

func TestEngineHealth(t *testing.T) {
	// An agent's own store is as good an engine as any: it speaks the same API.
	a := startAgent(t, "web-1", 1, 2)
	d := newDatasource(t, `{"mode":"engine","engineUrl":"`+a.url+`","scrapeInterval":"1s"}`)
	r, h := checkHealth(t, d)
	if r.Status != backend.HealthStatusOk || h.Engine == nil || h.Engine.Agents != 1 {
		t.Errorf("%v %q", r.Status, r.Message)
	}
	// History works without agents, native histograms too; what only agents have says so.
	must(t, ask(t, d, `{"kind":"heatmap"}`, 30e9, nil))
	if res := must(t, ask(t, d, `{"kind":"series","metric":"wake_wait"}`, 30e9, nil)); len(res.Frames[0].Fields) == 0 {
		t.Error("no wake wait from native histograms")
	}
	if res := must(t, ask(t, d, `{"kind":"timeline"}`, 30e9, nil)); len(res.Frames) != 2 ||
		!strings.Contains(describe(res), "sampled from the store") {
		t.Errorf("timeline:\n%s", describe(res))
	}
	if res := ask(t, d, `{"kind":"stops"}`, 30e9, nil); res.Error == nil ||
		!strings.Contains(res.Error.Error(), "Add the agents' addresses") {
		t.Errorf("stops: %v", res.Error)
	}
	a.stop()
	if r, _ = checkHealth(t, d); r.Status != backend.HealthStatusError {
		t.Errorf("engine away: %v %q", r.Status, r.Message)
	}
}

func TestLocalWithoutAgent(t *testing.T) {
	d := newDatasource(t, `{"socketPath":"`+t.TempDir()+`/none.sock"}`)
	r, h := checkHealth(t, d)
	if r.Status != backend.HealthStatusError || len(h.Commands) == 0 ||
		!strings.Contains(r.Message, "agent --socket") || !strings.Contains(r.Message, "sudo") {
		t.Errorf("%v %q %+v", r.Status, r.Message, h.Commands)
	}
	res := ask(t, d, `{}`, 30e9, nil)
	if res.Error == nil || !strings.Contains(res.Error.Error(), "sudo") ||
		res.ErrorSource != backend.ErrorSourceDownstream {
		t.Errorf("query: %v", res.Error)
	}
}

func TestLocalSocket(t *testing.T) {
	a := startAgent(t, "web-1", 1, 2)
	d := newDatasource(t, `{"socketPath":"`+a.socket+`","startAgent":false}`)
	if r, _ := checkHealth(t, d); r.Status != backend.HealthStatusOk {
		t.Errorf("%v %q", r.Status, r.Message)
	}
	if r := must(t, ask(t, d, `{}`, 30e9, nil)); len(r.Frames[0].Fields) != 3 {
		t.Errorf("got\n%s", describe(r))
	}
}
