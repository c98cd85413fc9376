package promapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
)

// What would take a machine's memory or half a minute is refused at once, with a sentence that says what to do.
func TestExpensiveQueriesAreRefusedAtOnce(t *testing.T) {
	a, s := open(t)
	src := viewtest.New(20, 8, start)
	fill(t, s, src, start, start.Add(20*time.Second))
	at := strconv.FormatInt(start.Unix()+19, 10)
	day := url.Values{"start": {strconv.FormatInt(start.Unix()-86400, 10)}, "end": {at}, "step": {"10"}}
	for name, c := range map[string]struct {
		query string
		form  url.Values
		want  string
	}{
		"a hundred years of milliseconds": {query: `max_over_time(vector(1)[100y:1ms])`, want: "larger step"},
		"a week of milliseconds":          {query: `max_over_time(vector(1)[7d:1ms])`, want: "larger step"},
		"hidden by a range": {query: `max_over_time(max_over_time(vector(1)[1h:1h])[7d:1ms])`,
			want: "larger step"},
		"hidden in an argument": {query: `clamp(vector(1), 0, scalar(max_over_time(vector(1)[7d:1ms])))`,
			want: "larger step"},
		"hidden in an operator": {query: `1 + (2 * sum(max_over_time(vector(1)[7d:1ms])))`,
			want: "larger step"},
		"every series all day": {query: `{__name__=~".+"}`, form: day, want: "fewer series"},
		"every series of a join": {query: `{__name__=~"pscope_p_.*"} or {__name__=~"pscope_p_.*"}`, form: day,
			want: "fewer series"},
		"brackets": {query: strings.Repeat("(", 150_000) + "1" + strings.Repeat(")", 150_000),
			want: "are allowed"},
		"fewer brackets": {query: strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000),
			want: "brackets in each other"},
		"signs":                     {query: strings.Repeat("-", 60_000) + "1", want: "words and signs"},
		"a long regular expression": {query: `x{a=~"\\pL{1000}\\pL{1000}"}`, want: "steps long"},
		"a long regular expression later": {query: `label_replace(x, "a", "b", "c", "\\pL{1000}\\pL{1000}")`,
			want: "steps long"},
	} {
		t.Run(name, func(t *testing.T) {
			form := url.Values{"query": {c.query}, "time": {at}}
			path := "/api/v1/query"
			if c.form != nil {
				path = "/api/v1/query_range"
				for k, v := range c.form {
					form[k] = v
				}
			}
			begun := fuzztest.CPUTime()
			code, body, _ := ask(t, a, path, form)
			if used := fuzztest.CPUTime() - begun; used > 500*time.Millisecond {
				t.Errorf("to refuse it took %v", used)
			}
			if code != http.StatusBadRequest && code != http.StatusUnprocessableEntity ||
				!strings.Contains(body, c.want) || !json.Valid([]byte(body)) {
				t.Errorf("%d %.300s; want %q", code, body, c.want)
			}
		})
	}
	for _, path := range []string{"/api/v1/series", "/api/v1/labels", "/api/v1/label/p/values",
		"/api/v1/format_query"} {
		form := url.Values{"match[]": {strings.Repeat("(", 150_000)}, "query": {strings.Repeat("(", 150_000)}}
		if code, body, _ := ask(t, a, path, form); code != http.StatusBadRequest ||
			!strings.Contains(body, "are allowed") {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
		if code, body, _ := ask(t, a, path,
			url.Values{"match[]": make([]string, 100)}); path != "/api/v1/format_query" &&
			(code != http.StatusBadRequest || !strings.Contains(body, "regular expressions")) {
			t.Errorf("%s: a hundred selectors: %d %.200s", path, code, body)
		}
	}
}

// What boards ask is answered, with the memory that a history has by default, also on a host with a hundred processes.
func TestBoardsAreAnswered(t *testing.T) {
	a, s := open(t)
	fill(t, s, viewtest.New(100, 8, start), start, start.Add(20*time.Second))
	for _, c := range []struct {
		query string
		hours float64
		step  int
	}{
		{`sum by (process, process_pid, p) (rate(pscope_p_seconds_total{state=~"running|gc|syscall"}[4s]))`, 1, 4},
		{`sum by (process, process_pid, p) (rate(pscope_p_seconds_total{state=~"running|gc|syscall"}[87s]))`, 24, 86},
		{`histogram_quantile(0.99, sum by (process) (rate(pscope_p_wake_wait_seconds[5m])))`, 6, 60},
		{`max_over_time((avg by (process) (rate(pscope_p_uninterruptible_seconds_total[1m])))[1h:10s])`, 24, 300},
		{`quantile_over_time(0.9, pscope_p_runq_depth[7d])`, 1, 3600},
		{`topk(5, sum by (process) (rate(process_cpu_seconds_total[1m]))) or vector(0)`, 24, 60},
	} {
		end := start.Unix() + 19
		form := url.Values{"query": {c.query}, "start": {strconv.FormatInt(end-int64(c.hours*3600), 10)},
			"end": {strconv.FormatInt(end, 10)}, "step": {strconv.Itoa(c.step)}}
		if code, body, _ := ask(t, a, "/api/v1/query_range", form); code != http.StatusOK {
			t.Errorf("%s: %d %.300s", c.query, code, body)
		}
	}
}

// Where no memory is left a query waits in line; where the line is full it gets a 503 with a reason and a time.
func TestWaitsInLine(t *testing.T) {
	a, _ := open(t)
	all := len(a.budget.classes) - 1
	first, err := a.budget.admit(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan int, maxWaiting)
	var wg sync.WaitGroup
	for range maxWaiting {
		wg.Go(func() {
			code, _, _ := ask(t, a, "/api/v1/query", url.Values{"query": {"1"}})
			answers <- code
		})
	}
	for end := time.Now().Add(10 * time.Second); a.budget.waiting.Load() < maxWaiting && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	code, body, header := ask(t, a, "/api/v1/query", url.Values{"query": {"1"}})
	if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" ||
		!strings.Contains(body, "wait already") {
		t.Errorf("beyond the line: %d %v %s", code, header, body)
	}
	// One that goes away leaves the line.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if len(answers) > 0 {
		t.Errorf("%d queries were answered while another had all of the memory", len(answers))
	}
	if _, err := a.budget.admit(ctx, all); err == nil {
		t.Error("who has gone away gets a share")
	}
	first.done()
	wg.Wait()
	for range maxWaiting {
		if code := <-answers; code != http.StatusOK {
			t.Errorf("after waiting: %d", code)
		}
	}
}

// A client that goes away stops its query, and the share is free again.
func TestAClientThatGoesAwayStopsItsQuery(t *testing.T) {
	a, s := open(t)
	fill(t, s, viewtest.New(4, 8, start), start, start.Add(2*time.Minute))
	srv := httptest.NewServer(a.Handler())
	defer srv.Close()
	form := url.Values{"query": {`sum(quantile_over_time(0.5, pscope_p_runq_depth[2m:1s])) + sum(quantile_over_time(0.5, pscope_p_runq_depth[1h]))`},
		"start": {fmt.Sprint(start.Unix() - 10_000)}, "end": {fmt.Sprint(start.Unix() + 119)}, "step": {"1"}}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/api/v1/query_range?"+form.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := srv.Client().Do(r); err == nil {
		res.Body.Close()
		t.Skip("this machine is too fast: the query was answered before its client went away")
	}
	for end := time.Now().Add(5 * time.Second); !a.budget.sem.TryAcquire(a.budget.total); time.Sleep(
		10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("five seconds after its client the query still holds its share")
		}
	}
	a.budget.sem.Release(a.budget.total)
}

// The estimate is never far below what the engine counts.
func TestEstimateIsFromAbove(t *testing.T) {
	a, s := open(t)
	fill(t, s, viewtest.New(10, 8, start), start, start.Add(5*time.Minute))
	end := start.Add(299 * time.Second)
	for _, query := range []string{
		`pscope_p_seconds_total`, `rate(pscope_p_seconds_total[30s])`, `sum by (p) (rate(pscope_p_seconds_total[30s]))`,
		`pscope_p_wake_wait_seconds`, `rate(pscope_p_wake_wait_seconds[30s])`,
		`pscope_p_runq_depth + on (process, p) pscope_p_runq_depth`,
		`max_over_time(sum(pscope_p_runq_depth)[1m:1s])`, `max_over_time(pscope_p_runq_depth[1m:1s])`,
		`topk(3, pscope_p_runq_depth)`,
		`pscope_p_runq_depth or pscope_runq_depth`, `vector(1)`, `time()`,
		`label_replace(pscope_p_runq_depth, "q", "$1", "p", "(.*)")`,
	} {
		q, err := a.budget.classes[len(a.budget.classes)-1].engine.NewRangeQuery(context.Background(), s.Queryable(),
			nil, query, start, end, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if res := q.Exec(context.Background()); res.Err != nil {
			t.Fatalf("%s: %v", query, res.Err)
		}
		peak := q.Stats().Samples.PeakSamples
		q.Close()
		minimum, c, err := a.estimate(t.Context(), mustParse(t, query), start, end, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if minimum.peak > 2.5*float64(peak)+10_000 {
			t.Errorf("%s: needs %.0f values in any case, and the engine held %d", query, minimum.peak, peak)
		}
		if c.peak < 0.9*float64(peak) || c.peak > 20*float64(peak)+10_000 {
			t.Errorf("%s: estimated %.0f values, the engine held %d", query, c.peak, peak)
		}
	}
}

func mustParse(t *testing.T, query string) parser.Expr {
	t.Helper()
	e, err := parse(query)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The watch over the process's memory stops the largest query, with a reason.
func TestMemoryStopsTheLargestQuery(t *testing.T) {
	a, _ := open(t)
	small, err := a.budget.admit(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer small.done()
	large, err := a.budget.admit(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer large.done()
	a.budget.stopLargest(true)
	if large.ctx.Err() == nil || small.ctx.Err() != nil {
		t.Errorf("large %v, small %v", large.ctx.Err(), small.ctx.Err())
	}
	if f := failureOf(large.why(context.Canceled)); f.code != http.StatusServiceUnavailable ||
		!strings.Contains(f.Error(), "--memory-limit") {
		t.Errorf("it is told %d %v", f.code, f)
	}
}
