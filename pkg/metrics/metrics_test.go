package metrics

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/p-scope/p-scope/pkg/cpufreq"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/pstate"
)

var start = time.Unix(1_700_000_000, 0)

func snapshot(src *viewtest.Source, at time.Time) Snapshot {
	return Snapshot{Views: src.Views(at), Targets: src.Targets(), Mode: "ebpf"}
}

func scrape(t *testing.T, e *Exposition, accept string) (contentType string, body []byte) {
	t.Helper()
	rec := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", accept)
	e.ServeHTTP(rec, req)
	b, err := io.ReadAll(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Header().Get("Content-Type"), b
}

const openMetrics = "application/openmetrics-text;version=1.0.0"

// parsed reads OpenMetrics or text with Prometheus' own parser into values by series.
func parsed(t *testing.T, contentType string, body []byte) map[string]float64 {
	t.Helper()
	out := make(map[string]float64)
	eachSeries(t, contentType, body, func(ls labels.Labels, v float64) {
		if _, twice := out[ls.String()]; twice {
			t.Errorf("%s is there twice", ls)
		}
		out[ls.String()] = v
	})
	return out
}

func eachSeries(t *testing.T, contentType string, body []byte, on func(labels.Labels, float64)) {
	t.Helper()
	p, err := textparse.New(body, contentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("Prometheus' parser: %v", err)
		}
		if entry == textparse.EntrySeries {
			var ls labels.Labels
			p.Labels(&ls)
			_, _, v := p.Series()
			on(ls, v)
		}
	}
}

// What the families say of their labels is what series have.
func TestLabelsOfFamilies(t *testing.T) {
	e := NewExposition("h1", "1.0", func() Snapshot { return snapshot(rich(), start.Add(100*time.Second)) })
	ct, body := scrape(t, e, openMetrics)
	seen := map[string]bool{}
	eachSeries(t, ct, body, func(ls labels.Labels, _ float64) {
		name := ls.Get(model.MetricNameLabel)
		i := slices.IndexFunc(Families(), func(f Family) bool {
			return name == f.Name || f.Kind == Histogram && slices.Contains([]string{"_bucket", "_sum", "_count"},
				strings.TrimPrefix(name, f.Name))
		})
		if i < 0 {
			t.Fatalf("%s is of no family", name)
		}
		f := Families()[i]
		seen[f.Name] = true
		ls.Range(func(l labels.Label) {
			known := slices.Contains(append(TargetLabels(), f.Labels...), l.Name)
			if !known && l.Name != model.MetricNameLabel && l.Name != "le" {
				t.Errorf("%s has the label %s, of which its family knows nothing", name, l.Name)
			}
		})
		for _, l := range f.Labels {
			// Of a target that is refused, or observed without trouble, some are empty.
			if !ls.Has(l) && f.Name != "pscope_target_info" {
				t.Errorf("%s lacks the label %s of its family", ls, l)
			}
		}
	})
	if len(seen) < 20 {
		t.Errorf("only %d families are tried", len(seen))
	}
}

func rich() *viewtest.Source {
	src := viewtest.New(2, 3, start)
	src.Refused = []pstate.Target{{Key: pstate.Key{PID: 9, StartTime: 1}, Process: "old", GoVersion: "go1.19",
		Source: pstate.SourceRefused, Reason: `Go 1.19 is older than "1.21"`}}
	src.Change(0, func(v *pstate.TargetView) {
		var h pstate.Histogram
		h.Observe(3 * time.Millisecond)
		h.Observe(40 * time.Microsecond)
		v.StopHist["GC mark termination"] = h
		v.Lost["ring_full"] = 7
		v.Reconciled["status"] = 2
	})
	// Migrations of target 1 are counted, none of its P 2; those of target 0 are not.
	src.Change(1, func(v *pstate.TargetView) {
		v.Migrations = pstate.Migrations{Counted: true, Watched: 1500 * time.Millisecond, Known: 0.75}
		v.Ps[0].Migrations, v.Ps[1].Migrations = 1200, 7
	})
	return src
}

func TestOpenMetricsIsReadByPrometheus(t *testing.T) {
	src := rich()
	e := NewExposition("h1", "1.0", func() Snapshot {
		s := snapshot(src, start.Add(100*time.Second))
		s.Lost = map[string]uint64{"map_full": 5}
		return s
	})
	ct, body := scrape(t, e, openMetrics)
	if !bytes.HasSuffix(body, []byte("\n# EOF\n")) {
		t.Errorf("does not end in # EOF: %q", body[max(0, len(body)-40):])
	}
	got := parsed(t, ct, body)
	base := `cgroup="/system.slice/server-0.service", host="h1"`
	other := `cgroup="/system.slice/server-1.service", host="h1"`
	for series, want := range map[string]float64{
		`{__name__="pscope_p_seconds_total", ` + base +
			`, p="1", process="server-0", process_pid="1000", state="idle"}`: 50,
		`{__name__="pscope_p_thread_seconds_total", ` + base +
			`, p="0", process="server-0", process_pid="1000", thread_state="runnable"}`: 5,
		`{__name__="pscope_p_uninterruptible_seconds_total", ` + base +
			`, p="0", process="server-0", process_pid="1000"}`: 0,
		`{__name__="pscope_stop_seconds_count", ` + base +
			`, process="server-0", process_pid="1000", reason="GC mark termination"}`: 2,
		`{__name__="pscope_stop_seconds_sum", ` + base +
			`, process="server-0", process_pid="1000", reason="GC mark termination"}`: 0.00304,
		`{__name__="pscope_stop_seconds_bucket", ` + base +
			`, le="0.000244140625", process="server-0", process_pid="1000", reason="GC mark termination"}`: 1,
		`{__name__="pscope_lost_events_total", ` + base +
			`, process="server-0", process_pid="1000", reason="ring_full"}`: 7,
		`{__name__="pscope_lost_events_total", host="h1", reason="map_full"}`: 5,
		`{__name__="pscope_reconciliations_total", ` + base +
			`, process="server-0", process_pid="1000", reason="status"}`: 2,
		`{__name__="pscope_probe_seconds_total", ` + base +
			`, process="server-0", process_pid="1000", tier="0"}`: 0.1,
		`{__name__="pscope_target_info", go_version="go1.19", host="h1", process="old", process_pid="9", reason="Go 1.19 is older than \"1.21\"", source="refused"}`:                        1,
		`{__name__="pscope_target_info", cgroup="/system.slice/server-0.service", go_version="go1.26.8", host="h1", layout="dwarf", process="server-0", process_pid="1000", source="ebpf"}`: 1,
		`{__name__="go_runtime_gomaxprocs", ` + base +
			`, process="server-0", process_pid="1000"}`: 3,
		`{__name__="go_runtime_p_status", ` + base +
			`, pid="2", process="server-0", process_pid="1000", status="1"}`: 1,
		`{__name__="go_runtime_p_status", ` + base +
			`, pid="2", process="server-0", process_pid="1000", status="0"}`: 0,
		`{__name__="pscope_p_transitions_total", cgroup="/system.slice/server-0.service", from="running", host="h1", p="0", process="server-0", process_pid="1000", to="idle"}`: 100_000,
		`{__name__="pscope_p_runq_depth_distribution_bucket", ` + base +
			`, le="0.0", p="0", process="server-0", process_pid="1000"}`: 500,
		`{__name__="pscope_p_runq_depth_distribution_sum", ` + base +
			`, p="0", process="server-0", process_pid="1000"}`: 666,
		`{__name__="pscope_goroutine_migrations_total", ` + other +
			`, p="0", process="server-1", process_pid="1001"}`: 1200,
		`{__name__="pscope_goroutine_migrations_total", ` + other +
			`, p="2", process="server-1", process_pid="1001"}`: 0,
		`{__name__="pscope_migration_windows_seconds_total", ` + other +
			`, process="server-1", process_pid="1001"}`: 1.5,
		`{__name__="pscope_migration_known_ratio", ` + other +
			`, process="server-1", process_pid="1001"}`: 0.75,
		`{__name__="pscope_p_runq_depth_distribution_bucket", ` + base +
			`, le="2.0", p="0", process="server-0", process_pid="1000"}`: 833,
	} {
		if v, ok := got[series]; !ok || math.Abs(v-want) > 1e-9 {
			t.Errorf("%s = %v (there: %v), want %v", series, v, ok, want)
		}
	}
	for series := range got {
		if strings.Contains(series, "migration") && !strings.Contains(series, "server-1") ||
			strings.Contains(series, "cpu_frequency") {
			t.Errorf("%s was never measured and must be absent", series)
		}
	}
}

func TestStatesSumToWallTime(t *testing.T) {
	src := viewtest.New(1, 4, start)
	at := start
	e := NewExposition("h", "1", func() Snapshot { return snapshot(src, at) })
	sums := func() map[string]float64 {
		out := make(map[string]float64)
		ct, body := scrape(t, e, openMetrics)
		for series, v := range parsed(t, ct, body) {
			if strings.Contains(series, "pscope_p_seconds_total") {
				p := series[strings.Index(series, ` p="`):]
				out[p[:6]] += v
			}
		}
		return out
	}
	at = start.Add(10 * time.Second)
	first := sums()
	at = start.Add(17500 * time.Millisecond)
	for p, v := range sums() {
		if d := v - first[p]; math.Abs(d-7.5) > 1e-6 {
			t.Errorf("%s: two scrapes 7.5 s apart differ by %v", p, d)
		}
	}
}

func TestTextAndOpenMetricsAgree(t *testing.T) {
	src := rich()
	e := NewExposition("h1", "1.0", func() Snapshot { return snapshot(src, start.Add(time.Minute)) })
	ct, body := scrape(t, e, openMetrics)
	open := parsed(t, ct, body)
	ct, body = scrape(t, e, "text/plain")
	plain := parsed(t, ct, body)
	if len(open) != len(plain) || len(open) == 0 {
		t.Fatalf("%d series in OpenMetrics, %d in text", len(open), len(plain))
	}
	for s, v := range open {
		if plain[s] != v {
			t.Errorf("%s: %v in OpenMetrics, %v in text", s, v, plain[s])
		}
	}
}

func TestNegotiation(t *testing.T) {
	e := NewExposition("h1", "1.0", func() Snapshot { return Snapshot{} })
	const proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding="
	for accept, want := range map[string]string{
		"":                  "text/plain; version=0.0.4",
		"*/*":               "text/plain; version=0.0.4",
		"text/html":         "text/plain; version=0.0.4",
		openMetrics:         "application/openmetrics-text; version=1.0.0",
		proto + "delimited": "application/vnd.google.protobuf",
		proto + "text":      "text/plain; version=0.0.4",
		"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1": "application/openmetrics-text; version=1.0.0",
		proto + "delimited,application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5":                                                   "application/vnd.google.protobuf",
	} {
		if ct, _ := scrape(t, e, accept); !strings.HasPrefix(ct, want) {
			t.Errorf("asked for %q: %q, want %q", accept, ct, want)
		}
	}
}

func TestProtobufHasNativeHistograms(t *testing.T) {
	src := rich()
	e := NewExposition("h1", "1.0", func() Snapshot { return snapshot(src, start.Add(time.Minute)) })
	_, body := scrape(t, e, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	r := bytes.NewReader(body)
	seen := make(map[string]*dto.MetricFamily)
	for r.Len() > 0 {
		f := new(dto.MetricFamily)
		if err := protodelim.UnmarshalFrom(r, f); err != nil {
			t.Fatal(err)
		}
		seen[f.GetName()] = f
	}
	stop := seen["pscope_stop_seconds"].GetMetric()[0].GetHistogram()
	if stop.GetSchema() != 1 || stop.GetSampleCount() != 2 || len(stop.GetPositiveSpan()) != 2 {
		t.Errorf("got %v", stop)
	}
	// 40 µs lie in (2^-15, 2^-14.5], index -29; 3 ms in (2^-8.5, 2^-8], index -16.
	if s := stop.GetPositiveSpan(); s[0].GetOffset() != -29 || s[1].GetOffset() != 12 {
		t.Errorf("spans %v", s)
	}
	runq := seen["pscope_p_runq_depth_distribution"].GetMetric()[0].GetHistogram()
	if runq.GetZeroCount() == 0 || runq.GetSampleSum() != 400 || runq.GetPositiveSpan()[0].GetOffset() != 1 {
		t.Errorf("got %v", runq)
	}
}

func TestSnapshotModeLeavesOutWhatItCannotSee(t *testing.T) {
	src := viewtest.New(1, 2, start)
	src.Change(0, func(v *pstate.TargetView) {
		v.Source, v.Reason = pstate.SourceSnapshot, "no CAP_BPF"
		v.GlobalRunq = -1
	})
	snap := snapshot(src, start.Add(time.Minute))
	for i := range snap.Views[0].Ps {
		snap.Views[0].Ps[i].RunqDepth = -1
	}
	e := NewExposition("h", "1", func() Snapshot { return snap })
	_, body := scrape(t, e, "text/plain")
	for _, name := range []string{"pscope_p_wake_wait_seconds", "pscope_p_transitions_total",
		"pscope_p_stop_seconds_total", "pscope_p_runq_depth{", "pscope_runq_depth{"} {
		if bytes.Contains(body, []byte(name)) {
			t.Errorf("%s can't be known from snapshots", name)
		}
	}
	if !bytes.Contains(body, []byte(`source="snapshot"`)) {
		t.Error("the source is not told")
	}
}

func TestEndedTargetVanishes(t *testing.T) {
	src := viewtest.New(2, 2, start)
	e := NewExposition("h", "1", func() Snapshot { return snapshot(src, start.Add(time.Minute)) })
	_, before := scrape(t, e, "text/plain")
	src.End(0)
	_, after := scrape(t, e, "text/plain")
	if !bytes.Contains(before, []byte(`"server-0"`)) || bytes.Contains(after, []byte(`"server-0"`)) ||
		!bytes.Contains(after, []byte(`"server-1"`)) {
		t.Error("want server-0 before its end only, server-1 always")
	}
	if n := len(e.set.targets); n != 1 {
		t.Errorf("%d targets are cached after one of two ended", n)
	}
	for _, s := range e.set.all {
		if strings.Contains(s.text.labels, "server-0") {
			t.Fatal("a series of the ended target is still cached")
		}
	}
}

func TestTheAgentTellsOfItself(t *testing.T) {
	src := rich()
	e := NewExposition("h", "v", func() Snapshot {
		s := snapshot(src, start)
		s.Self = Self()
		return s
	})
	contentType, body := scrape(t, e, "text/plain")
	got := parsed(t, contentType, body)
	memory, started := got[`{__name__="process_resident_memory_bytes", host="h"}`],
		got[`{__name__="process_start_time_seconds", host="h"}`]
	if runtime.GOOS == "linux" && (memory < 1<<20 || started < 1e9) {
		t.Errorf("resident %v, started %v", memory, started)
	}
}

func TestTargetThatLearnsItsPod(t *testing.T) {
	src := viewtest.New(1, 1, start)
	e := NewExposition("h", "1", func() Snapshot { return snapshot(src, start.Add(time.Minute)) })
	scrape(t, e, "text/plain")
	src.Change(0, func(v *pstate.TargetView) { v.Pod, v.Namespace = "api-7f", "shop" })
	_, body := scrape(t, e, "text/plain")
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "pscope_p_") && !strings.Contains(line, `namespace="shop",pod="api-7f"`) {
			t.Fatalf("without its pod: %s", line)
		}
	}
}

// TestTargetThatIsObservedInAnotherWay: only the series that says so is another one then.
func TestTargetThatIsObservedInAnotherWay(t *testing.T) {
	src := viewtest.New(1, 2, start)
	e := NewExposition("h", "1", func() Snapshot { return snapshot(src, start.Add(time.Minute)) })
	scrape(t, e, "text/plain")
	before := map[*slot]bool{}
	for _, s := range e.set.all {
		before[s] = true
	}
	src.Change(0, func(v *pstate.TargetView) { v.Reason = "left out: stops" })
	_, body := scrape(t, e, "text/plain")
	made := 0
	for _, s := range e.set.all {
		if !before[s] {
			made++
		}
	}
	if made != 1 || len(e.set.all) != len(before) {
		t.Errorf("%d of %d series are new", made, len(e.set.all))
	}
	info := 0
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "pscope_target_info{") {
			if info++; !strings.Contains(line, `reason="left out: stops"`) {
				t.Errorf("the old reason: %s", line)
			}
		}
	}
	if info != 1 {
		t.Errorf("%d infos of one target", info)
	}
}

func TestEveryFamilyOfTheContract(t *testing.T) {
	want := strings.Fields(`pscope_p_seconds_total pscope_p_thread_seconds_total pscope_p_uninterruptible_seconds_total pscope_p_runq_depth
		pscope_p_runq_depth_distribution pscope_runq_depth pscope_p_sched_ticks_total pscope_p_syscalls_total pscope_p_wake_wait_seconds
		pscope_stop_seconds pscope_p_stop_seconds_total pscope_p_transitions_total pscope_goroutine_migrations_total pscope_cpu_frequency_hertz
		pscope_cpu_frequency_seconds_total pscope_lost_events_total pscope_reconciliations_total pscope_probe_seconds_total pscope_build_info
		pscope_target_info go_runtime_gomaxprocs go_runtime_p_status`)
	have := make(map[string]bool)
	for _, f := range Families() {
		have[f.Name] = true
		if f.Help == "" || (f.Kind == Counter) != strings.HasSuffix(f.Name, "_total") {
			t.Errorf("%s: help %q, kind %v", f.Name, f.Help, f.Kind)
		}
	}
	for _, name := range want {
		if !have[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestCPUFrequencies(t *testing.T) {
	cpus := []cpufreq.CPU{{CPU: "0", Hertz: 2.4e9, Bands: []cpufreq.Band{{Hertz: 8e8, Time: 10 * time.Second},
		{Hertz: 2.4e9}}}, {CPU: "1"}}
	e := NewExposition("h", "1", func() Snapshot { return Snapshot{CPUs: cpus} })
	ct, body := scrape(t, e, openMetrics)
	got := parsed(t, ct, body)
	for series, want := range map[string]float64{
		`{__name__="pscope_cpu_frequency_hertz", cpu="0", host="h"}`:                        2.4e9,
		`{__name__="pscope_cpu_frequency_seconds_total", band="0.8GHz", cpu="0", host="h"}`: 10,
		`{__name__="pscope_cpu_frequency_seconds_total", band="2.4GHz", cpu="0", host="h"}`: 0,
	} {
		if v, ok := got[series]; !ok || v != want {
			t.Errorf("%s: %v (%v), want %v\n%s", series, v, ok, want, body)
		}
	}
	if strings.Contains(string(body), `cpu="1"`) {
		t.Errorf("a CPU whose frequency is not known has a number:\n%s", body)
	}
}

func BenchmarkScrape(b *testing.B) {
	src := viewtest.New(10, 8, start)
	snap := snapshot(src, start.Add(time.Minute))
	e := NewExposition("h", "1", func() Snapshot { return snap })
	e.render("text/plain; version=0.0.4")
	b.ReportAllocs()
	for b.Loop() {
		e.render("text/plain; version=0.0.4")
	}
}
