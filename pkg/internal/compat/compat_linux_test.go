//go:build linux

package compat

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/grafana/grafana-plugin-sdk-go/genproto/pluginv2"
	"google.golang.org/protobuf/proto"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// onlyPresent are the expressions about series that agents of the last release do not have: their panels are empty
// beside such an agent. docs/install.md, "One version apart", names them. What is not exactly one of these may not be
// empty.
var onlyPresent = []string{
	"max by (resource, kind) (rate(pscope_cgroup_pressure_seconds_total" + ofProcess + "[$__rate_interval]))",
	"max by (set_by) (rate(pscope_cgroup_throttled_seconds_total" + ofProcess + "[$__rate_interval]))",
	"min by (set_by) (pscope_cgroup_cpu_limit_cores" + ofProcess + ")",
	"max(go_runtime_gomaxprocs" + ofProcess + ") and on () max(pscope_cgroup_cpu_limit_cores" + ofProcess + ")",
}

// ofProcess is what panels about one process choose, as filled has it.
const ofProcess = `{host=~".*",process=~".*",process_pid=~".*"}`

// mayBeEmpty says of a query that an agent of the other version need not have an answer.
func mayBeEmpty(query string) bool {
	return slices.Contains(onlyPresent, expression(query)) ||
		slices.ContainsFunc(byChance, func(word string) bool { return strings.Contains(query, word) })
}

// expression of a query; empty: it has none.
func expression(query string) string {
	var q struct{ Expr string }
	_ = json.Unmarshal([]byte(query), &q)
	return q.Expr
}

// TestOnlyKnownQueriesMayBeEmpty: what every agent can answer is not let off for a word in it, and what is let off is
// on a board.
func TestOnlyKnownQueriesMayBeEmpty(t *testing.T) {
	all := queries(t, programs{version: "present", tree: root})
	for _, e := range onlyPresent {
		if !slices.ContainsFunc(all, func(q string) bool { return expression(q) == e }) {
			t.Errorf("%s may be empty, and is on no board", e)
		}
	}
	for _, q := range []string{`{"kind":"series","metric":"gomaxprocs","by":["host","runtime"]}`,
		`{"kind":"series","expr":"sum(go_runtime_gomaxprocs{host=~\".*\"})"}`,
		`{"kind":"series","expr":"sum by (runtime) (pscope_p_seconds_total) or pscope_cgroup_cpu_limit_cores"}`} {
		if mayBeEmpty(q) {
			t.Errorf("%s may be empty", q)
		}
	}
}

// byChance are words of series that are there only once something has happened that need not happen.
var byChance = []string{"pscope_reconciliations_total", "pscope_lost_events_total"}

// pluginID is the plugin's, as plugin.json has it.
const pluginID = "pscope-pscope-datasource"

// TestAgentsAndPluginsOneVersionApart: each plugin asks both agents, and both at once, everything that it can ask.
func TestAgentsAndPluginsOneVersionApart(t *testing.T) {
	last, now := both(t)
	demo, pid := startDemo(t, now)
	agents := []*runningAgent{startAgent(t, last, demo, ""), startAgent(t, now, demo, "")}
	time.Sleep(25 * time.Second) // of history; nothing that can be asked about needs more
	for i, of := range []programs{last, now} {
		own, other := agents[i], agents[1-i]
		t.Run(fmt.Sprintf("plugin %s, agent %s", of.version, other.of.version), func(t *testing.T) {
			g := startPlugin(t, of)
			t.Run("queries", func(t *testing.T) { g.compareQueries(t, own, other) })
			t.Run("values", func(t *testing.T) { g.compareBusy(t, own, other) })
			t.Run("health", func(t *testing.T) { g.checkHealth(t, other) })
			t.Run("resources", func(t *testing.T) { g.checkResources(t, pid, other) })
			t.Run("procedures", func(t *testing.T) { g.checkProcedures(t, other) })
			t.Run("streams", func(t *testing.T) { g.checkStreams(t, other) })
			t.Run("both agents", func(t *testing.T) { g.checkBoth(t, agents...) })
		})
		t.Run(fmt.Sprintf("tools %s, agent %s", of.version, other.of.version),
			func(t *testing.T) { checkTools(t, of, other) })
	}
	t.Run("metrics", func(t *testing.T) { checkMetrics(t, agents[0], agents[1]) })
}

// context of a data source that asks these agents.
func (g *grafana) context(agents ...*runningAgent) *pluginv2.PluginContext {
	var urls []string
	for _, a := range agents {
		urls = append(urls, a.url)
	}
	changed := fnv.New32() // Grafana's host keeps an instance while its settings have the same time of change
	_, _ = io.WriteString(changed, strings.Join(urls, " "))
	settings, _ := json.Marshal(map[string]any{"mode": "agents", "agents": urls})
	return &pluginv2.PluginContext{OrgId: 1, PluginId: pluginID,
		DataSourceInstanceSettings: &pluginv2.DataSourceInstanceSettings{
			Uid: "pscope", Name: "P-Scope", JsonData: settings,
			DecryptedSecureJsonData: map[string]string{"token": token},
			LastUpdatedMS:           int64(changed.Sum32()),
		}}
}

// ask sends a query over the last 20 seconds.
func (g *grafana) ask(t *testing.T, query string, fromAlert bool, agents ...*runningAgent) backend.DataResponse {
	t.Helper()
	to := time.Now()
	req := &pluginv2.QueryDataRequest{PluginContext: g.context(agents...), Queries: []*pluginv2.DataQuery{{
		RefId: "A", MaxDataPoints: 100, IntervalMS: 1000, Json: []byte(query),
		TimeRange: &pluginv2.TimeRange{FromEpochMS: to.Add(-20 * time.Second).UnixMilli(), ToEpochMS: to.UnixMilli()},
	}}}
	if fromAlert {
		req.Headers = map[string]string{backend.FromAlertHeaderName: "true"}
	}
	raw, err := g.data.QueryData(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := backend.FromProto().QueryDataResponse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Responses["A"]
}

// queries are those of the boards and rules that came with a version, and every metric with every kind.
func queries(t *testing.T, of programs) []string {
	t.Helper()
	seen := map[string]bool{}
	var out []string
	add := func(q string) {
		if !seen[q] {
			seen[q] = true
			out = append(out, q)
		}
	}
	boards, err := filepath.Glob(filepath.Join(of.tree, "provisioning", "dashboards", "*.json"))
	if err != nil || len(boards) < 4 {
		t.Fatalf("boards of %s: %v %v", of.version, boards, err)
	}
	for _, file := range boards {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Panels []struct {
				Targets []json.RawMessage `json:"targets"`
			} `json:"panels"`
			Annotations struct {
				List []struct {
					Target json.RawMessage `json:"target"`
				} `json:"list"`
			} `json:"annotations"`
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatal(err)
		}
		for _, p := range board.Panels {
			for _, target := range p.Targets {
				add(filled(target))
			}
		}
		for _, a := range board.Annotations.List {
			if a.Target != nil {
				add(filled(a.Target))
			}
		}
	}
	for _, kind := range []string{"series", "heatmap", "timeline", "stops", "blocked", "diagnosis", "targets"} {
		add(fmt.Sprintf(`{"kind":%q}`, kind))
	}
	for _, metric := range strings.Fields("state thread d_share runq runq_distribution global_runq wake_wait stops " +
		"stop_rate " +
		"sched_ticks syscalls transitions imbalance gomaxprocs") {
		add(fmt.Sprintf(`{"kind":"series","metric":%q}`, metric))
	}
	add(`{"kind":"timeline","metric":"thread"}`)
	return out
}

// filled replaces the variables of a board.
func filled(query []byte) string {
	var compact bytes.Buffer
	_ = json.Compact(&compact, query)
	return strings.NewReplacer(`"ps":"$p"`, `"ps":""`, "$host", ".*", "$process", ".*", "$pid", ".*",
		"$p", ".*").Replace(compact.String())
}

// compareQueries: what an agent of the plugin's own version answers, one of the other version does too.
func (g *grafana) compareQueries(t *testing.T, own, other *runningAgent) {
	all := queries(t, g.of)
	answered := 0
	for _, q := range all {
		for _, fromAlert := range []bool{false, true} {
			here, there := g.ask(t, q, fromAlert, own), g.ask(t, q, fromAlert, other)
			if here.Error != nil {
				continue // no agent answers this: kinds that are not for alert rules
			}
			if there.Error != nil {
				t.Errorf("%s (alert rule: %v): %v", q, fromAlert, there.Error)
				continue
			}
			h, th := rows(here), rows(there)
			if h > 0 {
				answered++
			}
			if h > 0 && th == 0 && !mayBeEmpty(q) {
				t.Errorf("%s (alert rule: %v): empty, and not beside an agent of the plugin's own version", q,
					fromAlert)
			}
			if h > 0 && th > 0 && shape(here) != shape(there) {
				t.Errorf("%s (alert rule: %v): the frames are %s, not %s", q, fromAlert, shape(there), shape(here))
			}
		}
	}
	t.Logf("%d of %d questions have an answer beside an agent of the same version", answered, 2*len(all))
	if answered < len(all) {
		t.Errorf("only %d questions have an answer at all: this compares nothing", answered)
	}
}

func rows(r backend.DataResponse) (n int) {
	for _, f := range r.Frames {
		n += f.Rows()
	}
	return n
}

// shape is what panels rely on: the kinds of frames and the types of their first fields. Of lanes and series the number
// differs.
func shape(r backend.DataResponse) string {
	f := r.Frames[0]
	s := ""
	if f.Meta != nil {
		s = string(f.Meta.Type)
	}
	table := len(r.Frames) == 1 && !strings.Contains(s, "heatmap")
	for i, field := range f.Fields {
		if i < 2 || table {
			s += " " + field.Type().ItemTypeString()
		}
	}
	return s
}

// compareBusy: both agents observe the same program at the same time, so a plugin shows nearly the same of both.
func (g *grafana) compareBusy(t *testing.T, own, other *runningAgent) {
	const query = `{"kind":"series","editorMode":"code",` +
		`"expr":"avg by (p) (rate(pscope_p_seconds_total{state=~\"running|gc|syscall\"}[15s]))` +
		` and on (p) count by (p) (rate(pscope_p_seconds_total[15s]))"}`
	mean := func(a *runningAgent) float64 {
		resp := g.ask(t, query, false, a)
		if resp.Error != nil || len(resp.Frames) != 4 {
			t.Fatalf("%v, %d frames, want one for each P", resp.Error, len(resp.Frames))
		}
		sum := 0.0
		for _, f := range resp.Frames {
			v, err := f.FloatAt(1, f.Rows()-1)
			if err != nil {
				t.Fatal(err)
			}
			sum += v
		}
		return sum / 4
	}
	a, b := mean(own), mean(other)
	t.Logf("busy by state: %.3f and %.3f", a, b)
	if a == 0 || math.Abs(a-b) > 0.15*math.Max(a, b)+0.02 {
		t.Errorf("busy %.3f by the agent of %s, %.3f by that of %s", a, own.of.version, b, other.of.version)
	}
}

func (g *grafana) checkHealth(t *testing.T, a *runningAgent) {
	h, err := g.diagnostics.CheckHealth(t.Context(), &pluginv2.CheckHealthRequest{PluginContext: g.context(a)})
	if err != nil {
		t.Fatal(err)
	}
	var details struct {
		Agents []struct {
			Version  string
			OK       bool
			Observed int
		}
	}
	if err := json.Unmarshal(h.GetJsonDetails(), &details); err != nil {
		t.Fatal(err)
	}
	if h.GetStatus() != pluginv2.CheckHealthResponse_OK || len(details.Agents) != 1 || !details.Agents[0].OK ||
		details.Agents[0].Version != a.of.version || details.Agents[0].Observed != 1 {
		t.Errorf("%v %s %s", h.GetStatus(), h.GetMessage(), h.GetJsonDetails())
	}
}

// call asks for a resource and gives the status and what came until enough.
func (g *grafana) call(t *testing.T, a *runningAgent, method, path string, headers map[string]string, body []byte,
	enough func([]byte) bool) (int, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req := &pluginv2.CallResourceRequest{PluginContext: g.context(a), Method: method, Url: path, Body: body,
		Headers: map[string]*pluginv2.StringList{}}
	req.Path, _, _ = strings.Cut(path, "?")
	for k, v := range headers {
		req.Headers[k] = &pluginv2.StringList{Values: []string{v}}
	}
	s, err := g.resource.CallResource(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	code := 0
	var got []byte
	for {
		part, err := s.Recv()
		if err != nil {
			if err != io.EOF {
				t.Errorf("%s: %v", path, err)
			}
			return code, got
		}
		if part.GetCode() != 0 {
			code = int(part.GetCode())
		}
		got = append(got, part.GetBody()...)
		if enough != nil && enough(got) {
			return code, got
		}
	}
}

func (g *grafana) checkResources(t *testing.T, pid int, a *runningAgent) {
	for path, want := range map[string]string{
		"targets":                 fmt.Sprintf(`"pid":%d`, pid),
		"health":                  `"ok":true`,
		"label-values?label=host": `"` + a.host() + `"`,
		"label-values?label=process&order=worst&host=" + a.host(): `"pscope-demo"`,
		"label-values?label=pid":                                  fmt.Sprintf(`"%d"`, pid),
		"label-values?label=p":                                    `["0","1","2","3"]`,
	} {
		code, body := g.call(t, a, http.MethodGet, path, nil, nil, nil)
		if code != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s, want %s", path, code, body, want)
		}
	}
}

// checkProcedures calls what a browser calls through Grafana, as it does.
func (g *grafana) checkProcedures(t *testing.T, a *runningAgent) {
	now := time.Now()
	from, to := now.Add(-10*time.Second).UnixNano(), now.UnixNano()
	selector := &pb.Selector{Process: "pscope-demo"}
	for name, c := range map[string]struct{ ask, answer proto.Message }{
		"ListTargets": {&pb.ListTargetsRequest{Selector: selector}, &pb.ListTargetsResponse{}},
		"Intervals": {&pb.IntervalsRequest{Selector: selector, StartUnixNano: from, EndUnixNano: to},
			&pb.IntervalsResponse{}},
		"Stops": {&pb.StopsRequest{Selector: selector, StartUnixNano: from, EndUnixNano: to}, &pb.StopsResponse{}},
		"Diagnose": {&pb.DiagnoseRequest{Selector: selector, StartUnixNano: from, EndUnixNano: to},
			&pb.DiagnoseResponse{}},
		"Watch": {&pb.WatchRequest{Selector: selector, RateHz: 20, Transitions: true}, &pb.WatchResponse{}},
		"Capture": {&pb.CaptureRequest{Selector: selector, DurationNanos: int64(2 * time.Second)},
			&pb.CaptureResponse{}},
	} {
		raw, err := proto.Marshal(c.ask)
		if err != nil {
			t.Fatal(err)
		}
		message := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(raw))), raw...)
		const text = "application/grpc-web-text"
		code, body := g.call(t, a, http.MethodPost, "pscope.v1.ScopeService/"+name,
			map[string]string{"Content-Type": text, "Accept": text, "X-Grpc-Web": "1"},
			[]byte(base64.StdEncoding.EncodeToString(message)),
			func(got []byte) bool { return firstMessage(got) != nil })
		first := firstMessage(body)
		if code != http.StatusOK || first == nil {
			t.Errorf("%s: %d %q", name, code, body)
			continue
		}
		if err := proto.Unmarshal(first, c.answer); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if proto.Size(c.answer) == 0 {
			t.Errorf("%s answers with nothing", name)
		}
	}
}

// firstMessage is the first message of a body of grpc-web-text, nil while it is not whole. Chunks of base64 may be
// padded each.
func firstMessage(body []byte) []byte {
	var raw []byte
	for len(body) >= 4 {
		part, err := base64.StdEncoding.AppendDecode(nil, body[:4])
		if err != nil {
			return nil
		}
		raw, body = append(raw, part...), body[4:]
	}
	if len(raw) < 5 || raw[0] != 0 {
		return nil
	}
	n := int(binary.BigEndian.Uint32(raw[1:5]))
	if len(raw) < 5+n {
		return nil
	}
	return raw[5 : 5+n]
}

// checkStreams: each live panel gets rows.
func (g *grafana) checkStreams(t *testing.T, a *runningAgent) {
	streamed := 0
	defer func() {
		if t.Logf("%d live panels stream", streamed); streamed == 0 {
			t.Errorf("no live panel of %s streams: this checks nothing", g.of.version)
		}
	}()
	for _, q := range []string{`{"kind":"heatmap","live":true}`, `{"kind":"timeline","live":true}`,
		`{"kind":"heatmap","metric":"thread","live":true}`, `{"kind":"heatmap","metric":"d_share","live":true}`} {
		r := g.ask(t, q, false, a)
		if r.Error != nil || len(r.Frames) == 0 {
			t.Errorf("%s: %v", q, r.Error)
			continue
		}
		if r.Frames[0].Meta == nil || r.Frames[0].Meta.Channel == "" {
			t.Logf("%s does not stream", q)
			continue
		}
		path := strings.TrimPrefix(r.Frames[0].Meta.Channel, "ds/pscope/")
		sub, err := g.stream.SubscribeStream(t.Context(), &pluginv2.SubscribeStreamRequest{PluginContext: g.context(a),
			Path: path})
		if err != nil || sub.GetStatus() != pluginv2.SubscribeStreamResponse_OK {
			t.Errorf("%s: subscribing gives %v %v", q, sub, err)
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		s, err := g.stream.RunStream(ctx, &pluginv2.RunStreamRequest{PluginContext: g.context(a), Path: path})
		if err != nil {
			t.Errorf("%s: %v", q, err)
		} else {
			rows := 0
			for i := range 3 {
				p, err := s.Recv()
				if err != nil {
					t.Errorf("%s, message %d: %v", q, i, err)
					break
				}
				if !json.Valid(p.GetData()) {
					t.Errorf("%s, message %d: %s", q, i, p.GetData())
				}
				rows++
			}
			if rows == 3 {
				streamed++
			}
		}
		cancel()
	}
}

// checkBoth: a fleet that is being upgraded, asked as one.
func (g *grafana) checkBoth(t *testing.T, agents ...*runningAgent) {
	for _, q := range []string{`{"kind":"series","metric":"state"}`, `{"kind":"heatmap"}`, `{"kind":"timeline"}`,
		`{"kind":"stops"}`,
		`{"kind":"targets"}`, `{"kind":"blocked"}`, `{"kind":"diagnosis"}`} {
		r := g.ask(t, q, false, agents...)
		if r.Error != nil {
			t.Errorf("%s: %v", q, r.Error)
			continue
		}
		for _, f := range r.Frames {
			for _, n := range notices(f) {
				if strings.HasPrefix(n.Text, "Not shown") {
					t.Errorf("%s: %s", q, n.Text)
				}
			}
		}
	}
}

func notices(f *data.Frame) []data.Notice {
	if f.Meta == nil {
		return nil
	}
	return f.Meta.Notices
}

// checkTools: top and doctor ask an agent of another version.
func checkTools(t *testing.T, of programs, a *runningAgent) {
	if text, code := output(t, of.pscope, "top", "--once", "--socket", a.socket); code != 0 || !strings.Contains(text,
		"pscope-demo") {
		t.Errorf("top ends with %d: %s", code, text)
	}
	text, _ := output(t, of.pscope, "doctor", "--json", "--socket", a.socket)
	var report struct {
		Agent struct {
			Version, Error string
			Targets        int
		}
	}
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		t.Fatalf("doctor: %v\n%s", err, text)
	}
	if report.Agent.Error != "" || report.Agent.Version != a.of.version || report.Agent.Targets != 1 {
		t.Errorf("doctor says of the agent: %+v", report.Agent)
	}
}

// checkMetrics: every metric of the last release, with its labels, is one of the present.
func checkMetrics(t *testing.T, last, now *runningAgent) {
	old, young := exposed(t, last), exposed(t, now)
	if len(old) < 20 {
		t.Fatalf("only %d metrics", len(old))
	}
	for name, labels := range old {
		have, ok := young[name]
		if !ok {
			t.Errorf("%s is gone: boards and rules of %s ask for it", name, last.of.version)
			continue
		}
		for l := range labels {
			if !have[l] {
				t.Errorf("%s has lost its label %s", name, l)
			}
		}
	}
}

// exposed gives the labels of each metric on /metrics.
func exposed(t *testing.T, a *runningAgent) map[string]map[string]bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	out := map[string]map[string]bool{}
	for line := range bytes.Lines(text) {
		name, rest, ok := strings.Cut(string(line), "{")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if out[name] == nil {
			out[name] = map[string]bool{}
		}
		for _, pair := range strings.Split(rest, `",`) {
			label, _, _ := strings.Cut(pair, "=")
			out[name][label] = true
		}
	}
	return out
}

// TestSettingsStay: a configuration of the last release is one of the present: each of its settings is still there.
func TestSettingsStay(t *testing.T) {
	last, now := both(t)
	old, young := settings(t, last), settings(t, now)
	if len(old) < 20 {
		t.Fatalf("only %d settings: %v", len(old), old)
	}
	for _, s := range old {
		if !slices.Contains(young, s) {
			t.Errorf("--%s of %s is gone: agents that are told it don't start any more", s, last.version)
		}
	}
	// What goes back to the last release must be taken out of the configuration first; docs/install.md says so.
	text, err := os.ReadFile(filepath.Join(root, "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("Going back a version"))
	for _, s := range young {
		if !slices.Contains(old, s) && !bytes.Contains(text, []byte("`"+s+"`")) {
			t.Errorf("%s does not know the setting %s, and docs/install.md, Going back a version, does not say so",
				last.version, s)
		}
	}
}

// settings are the flags of the agent.
func settings(t *testing.T, of programs) (names []string) {
	t.Helper()
	text, err := exec.Command(of.pscope, "agent", "--help").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "  -"); ok {
			name, _, _ = strings.Cut(strings.TrimSpace(name), " ")
			names = append(names, name)
		}
	}
	return names
}

// TestHistoryOfAnotherVersion: an upgrade keeps the history, and so does going back.
func TestHistoryOfAnotherVersion(t *testing.T) {
	last, now := both(t)
	demo, _ := startDemo(t, now)
	dir := filepath.Join(t.TempDir(), "data")
	seconds := 0.0
	for i, of := range []programs{last, now, last, now} {
		a := startAgent(t, of, demo, dir)
		time.Sleep(8 * time.Second)
		a.waitForHistory(t)
		samples := a.samples(t)
		t.Logf("life %d, %s: %.0f samples", i, of.version, samples)
		if samples < seconds+3 {
			t.Errorf("%s sees %.0f samples of the history, %.0f were there before and 8 s have passed", of.version,
				samples,
				seconds)
		}
		seconds = samples
		a.stop()
	}
}

// waitForHistory waits until the history answers: it is opened while the agent serves already.
func (a *runningAgent) waitForHistory(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if v, _ := a.query(t, "vector(1)"); v != nil {
			return
		}
	}
	t.Fatalf("the history of %s does not open", a.of.version)
}

// samples counts what the history holds of the program.
func (a *runningAgent) samples(t *testing.T) float64 {
	t.Helper()
	v, why := a.query(t, `sum(count_over_time(pscope_p_seconds_total{p="0",state="running"}[1h]))`)
	if v == nil {
		t.Fatalf("%s: %s", a.of.version, why)
	}
	return *v
}

// query gives the value of an expression that has one.
func (a *runningAgent) query(t *testing.T, expr string) (*float64, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		a.url+"/api/v1/query?query="+url.QueryEscape(expr), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err.Error()
	}
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if json.Unmarshal(text, &answer) != nil || len(answer.Data.Result) != 1 {
		return nil, string(text)
	}
	var v float64
	if _, err := fmt.Sscan(fmt.Sprint(answer.Data.Result[0].Value[1]), &v); err != nil {
		return nil, string(text)
	}
	return &v, ""
}
