package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

func TestPs(t *testing.T) {
	for list, want := range map[string]string{
		"": "", "0": "0", "3,1,2": "1-3", "0-3,7": "0-3,7", " 5 , 4 - 6 ,5": "4-6", "{1,2}": "1-2", "(1|3)": "1,3",
		".*": "", "$__all": "", "1023": "1023",
	} {
		ps, err := ParsePs(list)
		if got := FormatPs(ps); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", list, got, err, want)
		}
	}
	for _, list := range []string{"x", "3-1", "-1", "1-", "1024", "0-99999999999", ",", "1.5"} {
		var e *Error
		if ps, err := ParsePs(list); !errors.As(err, &e) || e.Field != "ps" || e.Next == "" {
			t.Errorf("%q: %v, %v", list, ps, err)
		}
	}
}

func FuzzParsePs(f *testing.F) {
	for _, s := range []string{"0-3,7", "{1,2}", "(0|1)", "", ".*", "9-8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		defer fuzztest.Bound(t, fuzztest.Small, len(list))()
		ps, err := ParsePs(list)
		if err != nil {
			return
		}
		again, err := ParsePs(FormatPs(ps))
		if err != nil || !slices.Equal(ps, again) {
			t.Fatalf("%q became %v, then %v (%v)", list, ps, again, err)
		}
	})
}

// Whatever a model asks for and whatever the store, the builder's PromQL parses, and user text stays inside its quotes.
func TestPlansParse(t *testing.T) {
	check := func(t *testing.T, what, expr string) {
		if _, err := parser.NewParser(parser.Options{}).ParseExpr(expr); err != nil {
			t.Errorf("%s: %s: %v", what, expr, err)
		}
	}
	target := `{"process":"a\"} or vector(1) or b{c=\"\\d","host":"web-[0-9]+","pid":"1|2","pod":"π\n"}`
	for _, m := range Metrics() {
		for _, agg := range []string{"", "sum", "avg", "max", "min"} {
			for _, by := range []string{`null`, `[]`, `["process"]`, `["host","p"]`, `["reason"]`} {
				raw := fmt.Sprintf(
					`{"kind":"series","metric":%q,"aggregation":%q,"by":%s,"ps":"0-2","target":%s,"states":["running"],"threadStates":["runnable"]}`, m, agg, by, target)
				q, err := Parse(backend.DataQuery{JSON: json.RawMessage(raw), MaxDataPoints: 100,
					TimeRange: backend.TimeRange{From: time.Unix(0, 0), To: time.Unix(3600, 0)}}, false)
				if err != nil {
					var e *Error
					if !errors.As(err, &e) || e.Field != "by" {
						t.Fatalf("%s: %v", raw, err)
					}
					continue
				}
				for _, d := range []Dialect{{Sample: time.Second, Native: true}, {Sample: 15 * time.Second},
					{Sample: time.Second, Native: true, Several: true}} {
					plan := q.Plan(d)
					for _, expr := range plan.Exprs {
						check(t, raw, expr)
						// Only the metric's own series are read: nothing broke out of its quotes.
						parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
						if err != nil {
							continue
						}
						for _, sel := range parser.ExtractSelectors(parsed) {
							name := ""
							for _, l := range sel {
								if l.Name == "__name__" {
									name = l.Value
								}
							}
							if !strings.HasPrefix(name, "pscope_") && !strings.HasPrefix(name, "go_runtime_") {
								t.Errorf("%s reads %q", expr, name)
							}
						}
					}
					if (plan.Merge == MergeAvg) != (len(plan.Exprs) == 2) {
						t.Errorf("%s: merge %v of %d expressions", raw, plan.Merge, len(plan.Exprs))
					}
					if m.Distribution() {
						check(t, raw, q.DistributionExpr(d))
					}
					check(t, raw, q.BusiestExpr(d))
					states, dShare, suspended := q.StateShareExprs(d)
					check(t, raw, states)
					check(t, raw, suspended)
					check(t, raw, dShare)
					check(t, raw, q.ThreadShareExpr(d))
				}
			}
		}
	}
}

// The Ps of two runtimes of one process have the same numbers: what a query asks for by default never adds them up.
func TestRuntimesAreKeptApart(t *testing.T) {
	grouping := regexp.MustCompile(`by \(([^)]*)\)`)
	for _, m := range Metrics() {
		q := parsed(t, fmt.Sprintf(`{"kind":"series","metric":%q}`, m))
		for _, d := range []Dialect{{Sample: time.Second, Native: true}, {Sample: time.Second, Several: true}} {
			exprs := q.Plan(d).Exprs
			states, dShare, suspended := q.StateShareExprs(d)
			for _, expr := range append(exprs, states, dShare, suspended, q.ThreadShareExpr(d)) {
				for _, by := range grouping.FindAllStringSubmatch(expr, -1) {
					labels := strings.Split(by[1], ", ")
					if slices.Contains(labels, "process_pid") && !slices.Contains(labels, "runtime") {
						t.Errorf("%s: %s", m, expr)
					}
				}
			}
		}
	}
}

func TestStep(t *testing.T) {
	for _, c := range []struct {
		long     time.Duration
		interval time.Duration
		points   int64
		json     string
		step     time.Duration
	}{
		{time.Hour, 5 * time.Second, 1000, `{}`, 5 * time.Second},
		{time.Hour, 0, 100, `{}`, 37 * time.Second},
		{time.Minute, 20 * time.Millisecond, 5000, `{}`, time.Second},
		{time.Hour, time.Second, 1000, `{"resolution":"1m"}`, time.Minute},
		{24 * time.Hour, time.Second, 1000, `{"resolution":"1s"}`, 87 * time.Second},
		{time.Hour, 0, 0, `{}`, 4 * time.Second},
		{time.Hour, 0, 1, `{}`, time.Hour},
		{0, 0, 100, `{}`, time.Second},
	} {
		to := time.Unix(1_700_000_003, 0)
		q, err := Parse(backend.DataQuery{JSON: []byte(c.json), Interval: c.interval, MaxDataPoints: c.points,
			TimeRange: backend.TimeRange{From: to.Add(-c.long), To: to}}, false)
		if err != nil {
			t.Fatal(err)
		}
		first, last := q.Range()
		n := int64(last.Sub(first)/q.Step) + 1
		if q.Step != c.step || first.Before(q.From) || last.After(q.To) || n < 1 || c.points > 0 && n > c.points {
			t.Errorf("%v in %d points: step %v, %d points from %v to %v", c.long, c.points, q.Step, n, first, last)
		}
		if w := q.Window(Dialect{Sample: time.Second}); w <= q.Step || w < 3*time.Second {
			t.Errorf("window %v for step %v: samples fall between steps", w, q.Step)
		}
	}
}

func TestSelector(t *testing.T) {
	for pid, want := range map[string][]int32{"": nil, "12": {12}, "12|34": {12, 34}, "(12|34)": {12, 34}, ".*": nil} {
		q := parsed(t, fmt.Sprintf(`{"target":{"pid":%q},"ps":"1"}`, pid))
		s, ok := q.Selector()
		if !ok || !slices.Equal(s.GetPids(), want) || !slices.Equal(s.GetPs(), []int32{1}) {
			t.Errorf("%q: %v %v", pid, s, ok)
		}
	}
	q := parsed(t, `{"target":{"pid":"1.*"}}`)
	if _, ok := q.Selector(); ok {
		t.Error("an expression passes for numbers")
	}
}

func TestMacros(t *testing.T) {
	q := parsed(t, `{"kind":"series","editorMode":"code","expr":"x[$__rate_interval] y[${__interval}] $__interval_ms $__range_s $__range"}`)
	want := "x[60s] y[5s] 5000 600 600s"
	if got := q.Plan(Dialect{Sample: 15 * time.Second}).Exprs[0]; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestEmptyAlertAsksForDShare(t *testing.T) {
	for raw, want := range map[string][2]string{
		`{}`:                 {"series", "d_share"},
		`{"metric":"runq"}`:  {"series", "runq"},
		`{"kind":"heatmap"}`: {"heatmap", "state"},
	} {
		q, err := Parse(backend.DataQuery{JSON: []byte(raw), MaxDataPoints: 100,
			TimeRange: backend.TimeRange{From: time.Unix(0, 0), To: time.Unix(600, 0)}}, true)
		if err != nil || string(q.Kind) != want[0] || string(q.Metric) != want[1] {
			t.Errorf("%s: %s of %s, %v; want %s", raw, q.Kind, q.Metric, err, want)
		}
	}
}
