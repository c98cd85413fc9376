package plugin

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grafana/dataplane/sdata/timeseries"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/p-scope/p-scope/pkg/plugin/query"
	"github.com/p-scope/p-scope/pkg/pstate"
)

var fromAlert = map[string]string{"FromAlert": "true"}

// lastValue of a number field.
func lastValue(t *testing.T, f *data.Field) float64 {
	t.Helper()
	for i := f.Len() - 1; i >= 0; i-- {
		v, ok := f.ConcreteAt(i)
		if ok {
			return v.(float64)
		}
	}
	t.Fatalf("field %q has no value", f.Name)
	return 0
}

func near(a, b, tolerance float64) bool { return math.Abs(a-b) <= tolerance }

func TestSeries(t *testing.T) {
	a := startAgent(t, "web-1", 2, 4)
	d := newDatasource(t, agentsJSON(a.url))

	// P number p is busy 1/(p+1) of the time: over four Ps 52 %.
	r := must(t, ask(t, d, `{"kind":"series","metric":"state","states":["running","gc","syscall"],"by":["process"]}`,
		30*time.Second, nil))
	if len(r.Frames) != 2 {
		t.Fatalf("want one frame per process, got\n%s", describe(r))
	}
	want := (1 + 1./2 + 1./3 + 1./4) / 4
	for i, f := range r.Frames {
		if got := lastValue(t, f.Fields[1]); !near(got, want, 0.02) {
			t.Errorf("busy share %v, want %v", got, want)
		}
		if name := f.Fields[1].Config.DisplayNameFromDS; name != []string{"server-0", "server-1"}[i] {
			t.Errorf("name %q", name)
		}
		if f.Fields[1].Config.Unit != "percentunit" || f.Meta.Type != data.FrameTypeTimeSeriesMulti {
			t.Errorf("unit %q, type %q", f.Fields[1].Config.Unit, f.Meta.Type)
		}
	}

	for _, c := range []struct {
		query  string
		frames int
		name   string
		check  func(v float64) bool
	}{
		{`{"metric":"state","target":{"process":"server-0"},"by":["state"]}`, 6, "running",
			func(v float64) bool { return near(v, want*.95, .02) }},
		{`{"metric":"thread","target":{"process":"server-0"},"by":["p","thread_state"],"threadStates":["runnable"]}`, 4,
			"P0 runnable", func(v float64) bool { return near(v, .05, .01) }},
		{`{"metric":"d_share","target":{"pid":"1000"}}`, 4, "P0", func(v float64) bool { return v == 0 }},
		{`{"metric":"runq","target":{"process":"server-(0|1)"},"by":["process"]}`, 2, "server-0",
			func(v float64) bool { return v >= 0 }},
		{`{"metric":"sched_ticks","target":{"process":"server-0"},"ps":"0-1"}`, 2, "P0",
			func(v float64) bool { return near(v, 1000, 20) }},
		{`{"metric":"syscalls","target":{"process":"server-0"},"by":[]}`, 1, "syscalls",
			func(v float64) bool { return near(v, 400, 10) }},
		{`{"metric":"transitions","target":{"process":"server-0"},"ps":"3"}`, 1, "P3",
			func(v float64) bool { return near(v, 2000, 40) }},
		{`{"metric":"wake_wait","target":{"process":"server-0"},"by":["p"]}`, 4, "P0",
			func(v float64) bool { return v > 0 && v < 1 }},
		{`{"metric":"wake_wait","target":{"process":"server-0"},"aggregation":"avg"}`, 1, "server-0",
			func(v float64) bool { return v > 0 && v < 1 }},
		{`{"metric":"runq_distribution","target":{"process":"server-0"}}`, 1, "server-0",
			func(v float64) bool { return v >= 0 && v <= 2 }},
		{`{"metric":"gomaxprocs","target":{"process":"server-0"}}`, 1, "server-0",
			func(v float64) bool { return v == 4 }},
		{`{"metric":"imbalance","target":{"process":"server-0"}}`, 1, "server-0",
			func(v float64) bool { return near(v, 1-want, .02) }},
		{`{"editorMode":"code","expr":"sum by (process) (rate(pscope_p_seconds_total[$__rate_interval]))"}`, 2,
			"server-0", func(v float64) bool { return near(v, 4, .05) }},
		{`{"metric":"state","states":["running","gc"],"target":{"process":"server-0"},"by":["p"],"legend":"lane {{p}} of {{process}}"}`, 4, "lane 0 of", func(v float64) bool { return near(v, 1, .02) }},
	} {
		q := `{"kind":"series",` + c.query[1:]
		r := must(t, ask(t, d, q, 30*time.Second, nil))
		if len(r.Frames) != c.frames {
			t.Errorf("%s: want %d frames, got\n%s", q, c.frames, describe(r))
			continue
		}
		field := r.Frames[0].Fields[1]
		if field.Config.DisplayNameFromDS != c.name {
			t.Errorf("%s: first is named %q, want %q", q, field.Config.DisplayNameFromDS, c.name)
		}
		if v := lastValue(t, field); !c.check(v) {
			t.Errorf("%s: last value %v", q, v)
		}
		if field.Len() > 100 {
			t.Errorf("%s: %d points, more than maxDataPoints", q, field.Len())
		}
		// Grafana's own reader of the dataplane contract takes the frames.
		coll, err := timeseries.CollectionReaderFromFrames(r.Frames)
		if err != nil {
			t.Errorf("%s: %v", q, err)
			continue
		}
		if refs, err := coll.GetCollection(true); err != nil || refs.Warning != nil || len(refs.Refs) != c.frames {
			t.Errorf("%s: reader: %d series, %v, %v", q, len(refs.Refs), refs.Warning, err)
		}
	}
}

func TestEmptyQueryShowsTheBusiestProcess(t *testing.T) {
	a := startAgent(t, "web-1", 2, 4)
	d := newDatasource(t, agentsJSON(a.url))
	r := must(t, ask(t, d, `{}`, 30*time.Second, nil))
	f := r.Frames[0]
	if len(r.Frames) != 1 || len(f.Fields) != 5 || f.Meta.Type != "heatmap-rows" {
		t.Fatalf("want time and four lanes, got\n%s", describe(r))
	}
	for p, field := range f.Fields[1:] {
		if want := "P" + string(rune('0'+p)); field.Config.DisplayNameFromDS != want || field.Labels["p"] != want[1:] {
			t.Errorf("lane %d is named %q with labels %v", p, field.Config.DisplayNameFromDS, field.Labels)
		}
		if got, want := lastValue(t, field), 1/float64(p+1); !near(got, want, .02) {
			t.Errorf("P%d is busy %v of the time, want %v", p, got, want)
		}
	}
	if len(f.Meta.Notices) != 1 || !strings.Contains(f.Meta.Notices[0].Text, "busiest") {
		t.Errorf("notices %v", f.Meta.Notices)
	}
	// All processes on demand: names say which.
	r = must(t, ask(t, d, `{"target":{"process":".*"}}`, 30*time.Second, nil))
	if n := len(r.Frames[0].Fields); n != 9 || r.Frames[0].Fields[8].Config.DisplayNameFromDS != "server-1 P3" {
		t.Fatalf("want eight lanes, got\n%s", describe(r))
	}
}

func TestDistributions(t *testing.T) {
	a := startAgent(t, "web-1", 1, 2)
	d := newDatasource(t, agentsJSON(a.url))
	r := must(t, ask(t, d, `{"kind":"heatmap","metric":"runq_distribution"}`, 30*time.Second, nil))
	f := r.Frames[0]
	if f.Meta.Type != "heatmap-rows" || len(f.Fields) < 4 {
		t.Fatalf("got\n%s", describe(r))
	}
	// Five looks a second found nothing queued, on each of two Ps; the steps are a second long.
	if f.Fields[1].Labels["le"] != "0" || f.Fields[1].Name != "" || !near(lastValue(t, f.Fields[1]), 10, 2) {
		t.Errorf("depth 0: labels %v, name %q, count %v", f.Fields[1].Labels, f.Fields[1].Name,
			lastValue(t, f.Fields[1]))
	}
	r = must(t, ask(t, d, `{"kind":"heatmap","metric":"wake_wait"}`, 30*time.Second, nil))
	f = r.Frames[0]
	var names []string
	for _, field := range f.Fields {
		names = append(names, field.Name)
	}
	if f.Meta.Type != "heatmap-cells" || !slices.Equal(names, []string{"xMax", "yMin", "yMax", "count"}) ||
		f.Rows() == 0 || f.Fields[1].Config.Unit != "s" {
		t.Fatalf("got\n%s", describe(r))
	}
}

func TestTimeline(t *testing.T) {
	a := startAgent(t, "web-1", 1, 2)
	d := newDatasource(t, agentsJSON(a.url))
	now := time.Now()
	a.fill(0, 2, now.Add(-5*time.Second), now)

	r := must(t, ask(t, d, `{"kind":"timeline"}`, 5*time.Second, nil))
	if len(r.Frames) != 2 {
		t.Fatalf("want one frame per P, got\n%s", describe(r))
	}
	f := r.Frames[1]
	if f.Fields[2].Config.DisplayNameFromDS != "P1" || f.Name != "" {
		t.Errorf("named %q, frame %q", f.Fields[2].Config.DisplayNameFromDS, f.Name)
	}
	enum := f.Fields[2].Config.TypeConfig.Enum
	shades := map[string]time.Duration{}
	for i := range f.Rows() {
		shades[enum.Text[f.Fields[2].At(i).(data.EnumItemIndex)]] += f.Fields[1].At(i).(time.Time).Sub(
			f.Fields[0].At(i).(time.Time))
	}
	if f.Rows() > 100 || shades["running"] < 2*time.Second || shades["idle"] < time.Second ||
		shades["uninterruptible"] == 0 {
		t.Errorf("%d rows, %v", f.Rows(), shades)
	}

	// Before the ring begins, the store stands in, and says so.
	r = must(t, ask(t, d, `{"kind":"timeline"}`, 40*time.Second, nil))
	if len(r.Frames) != 2 {
		t.Fatalf("got\n%s", describe(r))
	}
	first := r.Frames[0].Fields[0].At(0).(time.Time)
	if now.Sub(first) < 35*time.Second {
		t.Errorf("the timeline begins only at %v before now", now.Sub(first))
	}
	if text := describe(r); !strings.Contains(text, "sampled from the store") {
		t.Errorf("no notice about sampling:\n%s", text)
	}

	// A filter leaves the rest out, as gaps.
	r = must(t, ask(t, d, `{"kind":"timeline","states":["idle"]}`, 4*time.Second, nil))
	for _, f := range r.Frames {
		for i := range f.Rows() {
			if s := enum.Text[f.Fields[2].At(i).(data.EnumItemIndex)]; s != "idle" {
				t.Fatalf("shows %s", s)
			}
		}
	}
}

// A ring that was filled by others has lost a busy target's past, but not the one interval of a P that has been idle
// all the time.
func TestTimelineOfATargetWhoseIntervalsAreGone(t *testing.T) {
	now := time.Now()
	lanes := &laneSet{by: map[string]*laneState{"idle": {rawFrom: now.Add(-time.Hour).UnixNano()}}}
	q := query.Query{From: now.Add(-time.Minute), To: now, Step: time.Second}
	if lanes.gap(&q) {
		t.Error("a lane that reaches back has no gap")
	}
	lanes.dropped = true
	if !lanes.gap(&q) {
		t.Error("what other lanes have lost is not looked for")
	}
}

func TestStopsAndTables(t *testing.T) {
	a := startAgent(t, "web-1", 1, 2)
	a.source.Refused = []pstate.Target{{Key: pstate.Key{PID: 5, StartTime: 5}, Process: "old", GoVersion: "go1.19",
		Source: pstate.SourceRefused, Reason: "too old"}}
	now := time.Now()
	a.ring.AppendStop(a.source.Key(0), pstate.Stop{Start: now.Add(-2 * time.Second).UnixNano(),
		End:    now.Add(-2*time.Second + 3*time.Millisecond).UnixNano(),
		Reason: "GC mark termination", Arrivals: []pstate.Arrival{{P: 0, At: now.Add(-2 * time.Second).UnixNano()},
			{P: 1, At: now.Add(-2*time.Second + time.Millisecond).UnixNano()}}})
	d := newDatasource(t, agentsJSON(a.url))
	r := must(t, ask(t, d, `{"kind":"stops"}`, 10*time.Second, nil))
	f := r.Frames[0]
	if f.Rows() != 1 || f.Fields[2].At(0).(string) != "GC mark termination" ||
		!near(*f.Fields[3].At(0).(*float64), .003, 1e-6) || *f.Fields[4].At(0).(*string) != "P1" {
		t.Errorf("got\n%s", describe(r))
	}
	r = must(t, ask(t, d, `{"kind":"targets"}`, 10*time.Second, nil))
	if r.Frames[0].Rows() != 2 || !strings.Contains(describe(r), "too old") {
		t.Errorf("got\n%s", describe(r))
	}
	must(t, ask(t, d, `{"kind":"blocked"}`, 10*time.Second, nil))
	// What the table says of Ps of which nothing is to be said, and of none at all.
	r = must(t, ask(t, d, `{"kind":"diagnosis","target":{"process":"server-0"}}`, 10*time.Second, nil))
	if f := r.Frames[0]; f.Rows() != 1 || !strings.Contains(describe(r), "Nothing stands out") {
		t.Errorf("got\n%s", describe(r))
	}
	if r = must(t, ask(t, d, `{"kind":"diagnosis","target":{"process":"nobody"}}`, 10*time.Second,
		nil)); r.Frames[0].Rows() != 0 {
		t.Errorf("a diagnosis of nobody: got\n%s", describe(r))
	}
}

func TestAlertRules(t *testing.T) {
	a := startAgent(t, "web-1", 2, 4)
	d := newDatasource(t, agentsJSON(a.url))
	for query, frames := range map[string]int{
		`{"kind":"series","metric":"d_share"}`: 8,
		`{}`:                                   8, // every process: a rule must not follow the busiest
		`{"kind":"heatmap","metric":"runq","live":true}`:              8,
		`{"kind":"heatmap","metric":"wake_wait"}`:                     2,
		`{"kind":"timeline"}`:                                         8,
		`{"kind":"stops"}`:                                            2,
		`{"kind":"blocked"}`:                                          8,
		`{"kind":"series","metric":"state","by":["process","state"]}`: 12,
	} {
		r := must(t, ask(t, d, query, 30*time.Second, fromAlert))
		if len(r.Frames) != frames {
			t.Errorf("%s: %d frames, want %d", query, len(r.Frames), frames)
			continue
		}
		coll, err := timeseries.CollectionReaderFromFrames(r.Frames)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		refs, err := coll.GetCollection(true)
		seen := map[string]bool{}
		for _, s := range refs.Refs {
			if l := s.GetLabels().String(); seen[l] {
				t.Errorf("%s: the labels %s occur twice", query, l)
			} else {
				seen[l] = true
			}
		}
		if err != nil || len(refs.Refs) != frames {
			t.Errorf("%s: the reader finds %d series, %v", query, len(refs.Refs), err)
		}
	}
	for query, hint := range map[string]string{`{"kind":"diagnosis"}`: "kind series",
		`{"kind":"targets"}`: "kind series"} {
		r := ask(t, d, query, 30*time.Second, fromAlert)
		if r.Error == nil || !strings.Contains(r.Error.Error(), hint) ||
			r.ErrorSource != backend.ErrorSourceDownstream {
			t.Errorf("%s: %v (%s)", query, r.Error, r.ErrorSource)
		}
	}
	// None is no data, not an error: one frame without fields.
	r := must(t, ask(t, d, `{"kind":"series","metric":"d_share","target":{"process":"nobody"}}`, 30*time.Second,
		fromAlert))
	if len(r.Frames) != 1 || len(r.Frames[0].Fields) != 0 {
		t.Errorf("got\n%s", describe(r))
	}
}

func TestSeveralAgents(t *testing.T) {
	a, b := startAgent(t, "web-1", 1, 2), startAgent(t, "web-2", 1, 2)
	d := newDatasource(t, agentsJSON(a.url, b.url))
	r := must(t, ask(t, d, `{"kind":"series","metric":"state","states":["running","gc"],"by":["host","p"]}`,
		20*time.Second, nil))
	if len(r.Frames) != 4 {
		t.Fatalf("got\n%s", describe(r))
	}
	// The average over all Ps of both hosts, though each host averaged only its own.
	r = must(t, ask(t, d, `{"kind":"series","metric":"state","states":["running","gc"],"by":["process"]}`,
		20*time.Second, nil))
	if len(r.Frames) != 1 || !near(lastValue(t, r.Frames[0].Fields[1]), .75, .02) {
		t.Fatalf("got\n%s", describe(r))
	}
	r = must(t, ask(t, d, `{"kind":"series","metric":"state","states":["running","gc"],"by":["process"],"aggregation":"sum"}`, 20*time.Second, nil))
	if !near(lastValue(t, r.Frames[0].Fields[1]), 3, .05) {
		t.Fatalf("got\n%s", describe(r))
	}
	// One agent goes away: the other's answer stays, with a notice.
	b.stop()
	for _, query := range []string{`{"kind":"series","metric":"d_share"}`, `{"kind":"targets"}`, `{"kind":"timeline"}`,
		`{"kind":"heatmap"}`} {
		r = must(t, ask(t, d, query, 20*time.Second, nil))
		if text := describe(r); !strings.Contains(text, "Not shown: "+strings.TrimPrefix(b.url, "http://")) {
			t.Errorf("%s: no notice about the agent that is away:\n%s", query, text)
		}
	}
	// Then both: an error, and never "no data".
	a.stop()
	for _, headers := range []map[string]string{nil, fromAlert} {
		r = ask(t, d, `{"kind":"series","metric":"d_share"}`, 20*time.Second, headers)
		if r.Error == nil || r.ErrorSource != backend.ErrorSourceDownstream || r.Status != backend.StatusBadGateway {
			t.Errorf("got %v, %v", r.Error, r.Status)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	a := startAgent(t, "web-1", 1, 2)
	d := newDatasource(t, agentsJSON(a.url))
	for query, want := range map[string]string{
		`{"kind":"flame"}`:                                    "there is no query kind",
		`{"kind":"profile"}`:                                  "not available yet",
		`{"metric":"speed"}`:                                  "there is no metric",
		`{"ps":"3-1"}`:                                        "runs backwards",
		`{"ps":"x"}`:                                          "is no index",
		`{"target":{"process":"("}}`:                          "is not a regular expression",
		`{"kind":"series","by":["reason"]}`:                   "can't be grouped by",
		`{"kind":"series","aggregation":"median"}`:            "there is no aggregation",
		`{"kind":"heatmap","metric":"imbalance"}`:             "Use kind series",
		`{"resolution":"soon"}`:                               "is not a duration",
		`{"kind":"series","editorMode":"code","expr":""}`:     "expression is empty",
		`{"kind":"series","editorMode":"code","expr":"sum("}`: "parse error",
		`{"version":9}`:                                       "Update the P-Scope plugin",
		`{"states":["busy"]}`:                                 "there is no state",
		`[1]`:                                                 "can't be read",
	} {
		r := ask(t, d, query, time.Minute, nil)
		if r.Error == nil || !strings.Contains(r.Error.Error(), want) ||
			r.ErrorSource != backend.ErrorSourceDownstream || r.Status != backend.StatusBadRequest {
			t.Errorf("%s: %v (%v, %v), want %q", query, r.Error, r.Status, r.ErrorSource, want)
		}
	}
	if r := ask(t, d, `{}`, -time.Minute, nil); r.Error == nil || !strings.Contains(r.Error.Error(), "runs backwards") {
		t.Errorf("a range the wrong way round: %v", r.Error)
	}
	broken := newDatasource(t, `{"mode":"agents"}`)
	if r := ask(t, broken, `{}`, time.Minute, nil); r.Error == nil ||
		!strings.Contains(r.Error.Error(), "no agent is named") {
		t.Errorf("unusable settings: %v", r.Error)
	}
}
