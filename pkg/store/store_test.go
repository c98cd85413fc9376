package store

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/pstate"
)

var start = time.UnixMilli(1_700_000_000_000)

func open(t testing.TB, change func(o *Options)) *Store {
	t.Helper()
	o := Options{Dir: t.TempDir(), Host: "h", Version: "1"}
	if change != nil {
		change(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// fill appends a sample a second from from until to, both exclusive of each other.
func fill(t testing.TB, s *Store, src *viewtest.Source, from, to time.Time) {
	t.Helper()
	for at := from; at.Before(to); at = at.Add(s.opts.Interval) {
		snap := metrics.Snapshot{Views: src.Views(at), Targets: src.Targets(), Mode: "ebpf"}
		if err := s.Append(at, &snap); err != nil {
			t.Fatal(err)
		}
	}
}

// engine evaluates PromQL in the tests of what was written.
var engine = promql.NewEngine(promql.EngineOpts{MaxSamples: 10_000_000, Timeout: time.Minute,
	LookbackDelta: time.Minute})

func instant(t testing.TB, s *Store, at time.Time, expr string) promql.Vector {
	t.Helper()
	q, err := engine.NewInstantQuery(context.Background(), s.Queryable(), nil, expr, at)
	if err != nil {
		t.Fatal(err)
	}
	res := q.Exec(context.Background())
	v, err := res.Vector()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	out := append(promql.Vector(nil), v...)
	q.Close()
	return out
}

func value(t testing.TB, s *Store, at time.Time, expr string) float64 {
	t.Helper()
	v := instant(t, s, at, expr)
	if len(v) != 1 {
		t.Fatalf("%s: %d series, want 1", expr, len(v))
	}
	return v[0].F
}

func TestRatesAreExact(t *testing.T) {
	s := open(t, nil)
	src := viewtest.New(2, 4, start.Add(-time.Hour))
	end := start.Add(90 * time.Second)
	fill(t, s, src, start, end)
	at := end.Add(-time.Second)
	for expr, want := range map[string]float64{
		`sum(rate(pscope_p_seconds_total{process="server-0"}[10s]))`:               4,
		`rate(pscope_p_seconds_total{process="server-0",p="1",state="idle"}[10s])`: 0.5,
		`sum(rate(pscope_p_seconds_total{process="server-1",state!="idle"}[1m]))`:  1 + 1/2. + 1/3. + 1/4.,
		`count(pscope_p_runq_depth)`:                                               8,
		`count(go_runtime_p_status == 1)`:                                          8,
		`sum(histogram_count(rate(pscope_p_wake_wait_seconds{process="server-0"}[30s])))`: 4 * sumOf(10, 20,
			func(b int) float64 { return 1000 / float64(b) }),
		`max(pscope_target_info)`: 1,
		`histogram_quantile(0.5, sum(increase(pscope_p_runq_depth_distribution[1m])))`:     0,
		`sum(rate(pscope_p_thread_seconds_total{p="0",thread_state="runnable"}[20s]))`:     0.1,
		`sum(increase(pscope_p_sched_ticks_total{p="0",process="server-0"}[30s]))`:         30_000,
		`count(count by (process) (pscope_p_transitions_total{from="running",to="idle"}))`: 2,
	} {
		if got := value(t, s, at, expr); math.Abs(got-want) > 0.002*math.Max(1, want) {
			t.Errorf("%s = %v, want %v", expr, got, want)
		}
	}
}

func sumOf(from, to int, f func(int) float64) (sum float64) {
	for i := from; i < to; i++ {
		sum += f(i)
	}
	return sum
}

func TestEndedTargetGoesStaleAtOnce(t *testing.T) {
	s := open(t, nil)
	src := viewtest.New(2, 2, start)
	fill(t, s, src, start, start.Add(10*time.Second))
	src.End(0)
	fill(t, s, src, start.Add(10*time.Second), start.Add(13*time.Second))
	at := start.Add(11 * time.Second)
	if n := len(instant(t, s, at, `{process="server-0"}`)); n != 0 {
		t.Errorf("a second after its end %d series of server-0 are still there", n)
	}
	if n := len(instant(t, s, at, `pscope_p_seconds_total{process="server-1"}`)); n != 12 {
		t.Errorf("server-1 has %d series, want 12", n)
	}
	if n := len(instant(t, s, start.Add(9*time.Second), `pscope_p_seconds_total{process="server-0"}`)); n != 12 {
		t.Errorf("before its end server-0 has %d series, want 12", n)
	}
}

func TestPidAndNameTakenOver(t *testing.T) {
	s := open(t, nil)
	old, next := viewtest.New(1, 1, start), viewtest.New(1, 1, start.Add(5*time.Second))
	next.Change(0, func(v *pstate.TargetView) { v.StartTime++ })
	fill(t, s, old, start, start.Add(5*time.Second))
	fill(t, s, next, start.Add(6*time.Second), start.Add(10*time.Second))
	if got := value(t, s, start.Add(9*time.Second), `sum(pscope_p_seconds_total)`); math.Abs(got-4) > 0.01 {
		t.Errorf("the new process has lived %v s, want 4", got)
	}
	if n := s.Losses(); len(n) != 0 {
		t.Errorf("losses: %v", n)
	}
}

func TestUnknownRunqDepthIsAGap(t *testing.T) {
	s := open(t, nil)
	src := viewtest.New(1, 1, start)
	for i := range 30 {
		at := start.Add(time.Duration(i) * time.Second)
		snap := metrics.Snapshot{Views: src.Views(at)}
		if i >= 10 && i < 20 {
			snap.Views[0].Ps[0].RunqDepth = -1
		}
		if err := s.Append(at, &snap); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range map[int]int{9: 1, 10: 0, 19: 0, 20: 1} {
		if n := len(instant(t, s, start.Add(time.Duration(i)*time.Second), `pscope_p_runq_depth`)); n != want {
			t.Errorf("at %d s: %d series, want %d", i, n, want)
		}
	}
}

func TestCoarseGivesTheSamePicture(t *testing.T) {
	s := open(t, nil)
	src := viewtest.New(1, 4, start)
	end := start.Add(30 * time.Minute)
	fill(t, s, src, start, end)
	run := func(db storage.Queryable, expr string) promql.Matrix {
		q, err := engine.NewRangeQuery(context.Background(), db, nil, expr, start.Add(5*time.Minute),
			end.Add(-time.Second), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(q.Close) // the points are the query's until then
		m, err := q.Exec(context.Background()).Matrix()
		if err != nil {
			t.Fatal(err)
		}
		sort.Sort(m)
		return m
	}
	const expr = `sum by (p) (rate(pscope_p_seconds_total{state="running"}[2m]))`
	mixed, raw := run(s.Queryable(), expr), run(s.raw.db, expr)
	if len(mixed) != 4 || len(raw) != 4 {
		t.Fatalf("%d and %d series", len(mixed), len(raw))
	}
	for i := range raw {
		for j := range raw[i].Floats {
			if a, b := mixed[i].Floats[j].F, raw[i].Floats[j].F; math.Abs(a-b) > 1e-4 {
				t.Errorf("%s at %d: %v from coarse samples, %v from raw ones", raw[i].Metric, j, a, b)
			}
		}
	}
}

func TestWhenCoarseWillDo(t *testing.T) {
	q := &querier{grain: 15_000}
	for _, c := range []struct {
		fn          string
		rng, step   int64 // seconds
		wantsCoarse bool
	}{
		{"rate", 87, 86, true},     // a day on a thousand pixels
		{"rate", 46, 45, true},     // a day on nineteen hundred
		{"rate", 5, 4, false},      // an hour
		{"rate", 44, 60, false},    // too few coarse samples in a window
		{"rate", 60, 10, false},    // fine steps over a minute
		{"increase", 300, 0, true}, // an alert rule over five minutes
		{"rate", 120, 0, false},    // an alert rule over two
		{"avg_over_time", 87, 86, true},
		{"max_over_time", 87, 86, false}, // peaks are in every sample
		{"quantile_over_time", 3600, 3600, false},
		{"", 0, 60, true},
		{"", 0, 1, false},
		{"series", 0, 0, false},
	} {
		if got := q.coarseWillDo(&storage.SelectHints{Func: c.fn, Range: c.rng * 1000,
			Step: c.step * 1000}); got != c.wantsCoarse {
			t.Errorf("%s over %d s every %d s: coarse %v, want %v", c.fn, c.rng, c.step, got, c.wantsCoarse)
		}
	}
	if q.coarseWillDo(nil) {
		t.Error("no hints: every sample")
	}
}

func TestHistorySurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	src := viewtest.New(1, 2, start)
	s, err := Open(Options{Dir: dir, Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, src, start, start.Add(time.Minute))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, func(o *Options) { o.Dir = dir })
	if got := value(t, s, start.Add(59*time.Second), `sum(rate(pscope_p_seconds_total[30s]))`); math.Abs(
		got-2) > 0.001 {
		t.Errorf("after a restart: %v, want 2", got)
	}
}

// However many processes come, those that are in the history stay and the others are counted.
func TestAFullHistoryTakesNoMoreTargets(t *testing.T) {
	s := open(t, func(o *Options) { o.MaxSeries = 1 })
	src := viewtest.New(2, 2, start.Add(-time.Minute))
	for i := range 3 {
		at := start.Add(time.Duration(i) * time.Second)
		views := src.Views(at)
		if i == 0 {
			views = views[:1]
		}
		snap := metrics.Snapshot{Views: views, Targets: src.Targets(), Mode: "ebpf"}
		if err := s.Append(at, &snap); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(instant(t, s, start.Add(2*time.Second), `count by (process_pid) (pscope_p_seconds_total)`)); n != 1 {
		t.Errorf("%d targets are in the history, want the one that was first", n)
	}
	if n := s.Losses()["target_left_out"]; n != 1 {
		t.Errorf("%d targets counted as left out, want 1", n)
	}
}

// A crowded history asks for a minute of life.
func TestACrowdedHistoryWaitsLonger(t *testing.T) {
	s := open(t, func(o *Options) { o.CrowdedSeries = 1 })
	old, young := viewtest.New(1, 2, start.Add(-2*time.Minute)), viewtest.New(2, 2, start.Add(-10*time.Second))
	for i := range 3 {
		at := start.Add(time.Duration(i) * time.Second)
		snap := metrics.Snapshot{Views: old.Views(at), Mode: "ebpf"}
		if i > 0 {
			v := young.Views(at)[1]
			v.Started = start.Add(-10 * time.Second)
			snap.Views = append(snap.Views, v)
		}
		if err := s.Append(at, &snap); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(instant(t, s, start.Add(2*time.Second), `count by (process_pid) (pscope_p_seconds_total)`)); n != 1 {
		t.Errorf("%d targets are in the history, want the old one", n)
	}
}

// A process that lives for less than MinAge leaves nothing behind in the history.
func TestShortLivedTargetsLeaveNoSeries(t *testing.T) {
	s := open(t, func(o *Options) { o.MinAge = 5 * time.Second })
	born := time.Now().Truncate(time.Second)
	src := viewtest.New(1, 2, born)
	refused := pstate.Target{Key: pstate.Key{PID: 9}, Process: "old", Source: pstate.SourceRefused, Reason: "because",
		Started: born.Add(-time.Hour)}
	for at := born; at.Before(born.Add(8 * time.Second)); at = at.Add(time.Second) {
		snap := metrics.Snapshot{Views: src.Views(at), Targets: append(src.Targets(), refused)}
		snap.Views[0].Started = born
		if err := s.Append(at, &snap); err != nil {
			t.Fatal(err)
		}
		n := len(instant(t, s, at, `pscope_p_seconds_total`))
		if old := at.Sub(born) >= s.opts.MinAge; old != (n > 0) {
			t.Errorf("%v after it was found: %d series", at.Sub(born), n)
		}
		if len(instant(t, s, at, `pscope_target_info{source="refused"}`)) != 1 {
			t.Errorf("%v: a process refused for an hour is not in the history", at.Sub(born))
		}
	}
}

// An agent that takes the place of another has found old processes only just now. Their history goes on at once.
func TestOldProcessesOfANewAgentEnterAtOnce(t *testing.T) {
	s := open(t, func(o *Options) { o.MinAge = 5 * time.Second })
	now := time.Now().Truncate(time.Second)
	src := viewtest.New(1, 2, now) // its process has run for a minute
	if err := s.Append(now, &metrics.Snapshot{Views: src.Views(now), Targets: src.Targets()}); err != nil {
		t.Fatal(err)
	}
	if len(instant(t, s, now, `pscope_p_seconds_total`)) == 0 {
		t.Error("a process that has run for a minute is not in the history")
	}
}

func TestRunMarksTheEnd(t *testing.T) {
	s := open(t, func(o *Options) { o.Interval, o.Coarse, o.MinAge = 20*time.Millisecond, 20*time.Millisecond, 1 })
	src := viewtest.New(1, 1, time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rounds := 0
	s.Run(ctx, func(now time.Time) metrics.Snapshot {
		if rounds++; rounds == 10 {
			cancel()
		}
		return metrics.Snapshot{Views: src.Views(now)}
	})
	if n := len(instant(t, s, time.UnixMilli(s.lastAt), `pscope_p_seconds_total`)); n != 6 {
		t.Errorf("while it ran: %d series, want 6", n)
	}
	if n := len(instant(t, s, time.Now().Add(time.Second), `pscope_p_seconds_total`)); n != 0 {
		t.Errorf("after it ended %d series go on", n)
	}
}

func TestRetentionByTimeAndSize(t *testing.T) {
	s := open(t, func(o *Options) { o.Retention = 20 * time.Minute; o.MaxBytes = 1 << 40; o.Interval = 5 * time.Second })
	src := viewtest.New(1, 1, start)
	fill(t, s, src, start, start.Add(time.Hour))
	for _, l := range []*database{s.raw, s.coarse} {
		if err := l.db.Compact(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	first, err := s.coarse.db.StartTime()
	if err != nil {
		t.Fatal(err)
	}
	if kept := start.Add(time.Hour).Sub(time.UnixMilli(first)); kept > 35*time.Minute || kept < 15*time.Minute {
		t.Errorf("%v are kept, want about 20 minutes", kept)
	}

	small := open(t, func(o *Options) { o.Retention = 12 * time.Hour; o.MaxBytes = 1 << 20; o.Interval = 5 * time.Second })
	fill(t, small, viewtest.New(1, 2, start), start, start.Add(150*time.Minute))
	for range 3 {
		if err := small.raw.db.Compact(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	first, err = small.raw.db.StartTime()
	if err != nil {
		t.Fatal(err)
	}
	if first <= start.UnixMilli() {
		t.Errorf("the size limit dropped nothing: %d bytes of blocks", blockBytes(small))
	}
	if got := value(t, small, start.Add(149*time.Minute), `sum(rate(pscope_p_seconds_total[30s]))`); math.Abs(
		got-2) > 0.01 {
		t.Errorf("the newest samples must stay: %v", got)
	}
}

func blockBytes(s *Store) (n int64) {
	for _, b := range s.raw.db.Blocks() {
		n += b.Size()
	}
	return n
}

func TestErrorsNameTheFix(t *testing.T) {
	dir := t.TempDir()
	first := open(t, func(o *Options) { o.Dir = dir })
	_, err := Open(Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("another agent (pid %d)", os.Getpid())) ||
		!strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("locked: %v", err)
	}
	_ = first

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: file}); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a file for a directory: %v", err)
	}
	if _, err := Open(Options{}); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("no directory: %v", err)
	}
	if os.Getuid() != 0 {
		locked := filepath.Join(t.TempDir(), "locked")
		if err := os.Mkdir(locked, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Dir: locked}); err == nil || !strings.Contains(err.Error(), "chown") {
			t.Errorf("not writable: %v", err)
		}
	}
}

func TestBrokenWALIsRepaired(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Options{Dir: dir, Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, viewtest.New(1, 2, start), start, start.Add(time.Minute))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wal := filepath.Join(dir, "raw", "wal", "00000000")
	info, err := os.Stat(wal)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(wal, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("garbage ", 64)), info.Size()/2); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s = open(t, func(o *Options) { o.Dir = dir })
	// What lies before the broken place is there, and new samples are taken.
	if n := len(instant(t, s, start.Add(10*time.Second), `pscope_p_seconds_total`)); n != 12 {
		t.Errorf("%d series before the broken place, want 12", n)
	}
	fill(t, s, viewtest.New(1, 2, start), start.Add(2*time.Minute), start.Add(3*time.Minute))
	if got := value(t, s, start.Add(179*time.Second), `sum(rate(pscope_p_seconds_total[30s]))`); math.Abs(
		got-2) > 0.01 {
		t.Errorf("after the repair: %v, want 2", got)
	}
}
