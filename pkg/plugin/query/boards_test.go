package query

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// Processes that come and go within seconds don't flood the ranking of the Fleet board.
func TestRankingLeavesOutWhatIsGoneSoon(t *testing.T) {
	// A P that runs, one second in two idle, from the start of each process; the tool lives for 40 s.
	const series = `load 10s
pscope_p_seconds_total{host="h",process="server",process_pid="1",p="0",state="running"} 0+5x60
pscope_p_seconds_total{host="h",process="server",process_pid="1",p="0",state="idle"} 0+5x60
pscope_p_seconds_total{host="h",process="server",process_pid="1",p="0",state="dead"} 0+0x60
pscope_p_thread_seconds_total{host="h",process="server",process_pid="1",p="0",thread_state="runnable"} 0+1x60
pscope_p_uninterruptible_seconds_total{host="h",process="server",process_pid="1",p="0"} 0+2x60
pscope_p_stop_seconds_total{host="h",process="server",process_pid="1",p="0"} 0+3x60
pscope_p_seconds_total{host="h",process="tool",process_pid="2",p="0",state="running"} _x30 0+10x4 stale
pscope_p_thread_seconds_total{host="h",process="tool",process_pid="2",p="0",thread_state="runnable"} _x30 0+1x4 stale
pscope_p_uninterruptible_seconds_total{host="h",process="tool",process_pid="2",p="0"} _x30 0+2x4 stale
pscope_p_stop_seconds_total{host="h",process="tool",process_pid="2",p="0"} _x30 0+3x4 stale
`
	storage := promqltest.LoadedStorage(t, series)
	t.Cleanup(func() { _ = storage.Close() })
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})

	want := []float64{.5, .2, .1, .3, 0} // busy, D share, CPU wait, stopped, imbalance
	exprs := rankingExprs(t)
	if len(exprs) != len(want) {
		t.Fatalf("%d columns", len(exprs))
	}
	for i, expr := range exprs {
		q, err := engine.NewRangeQuery(context.Background(), storage, nil, expr, time.Unix(0, 0), time.Unix(600, 0), 10*time.Second)
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		table, err := q.Exec(context.Background()).Matrix()
		if err != nil || len(table) != 1 || table[0].Metric.Get("process") != "server" {
			t.Fatalf("%s: %v, %v", expr, table, err)
		}
		last := table[0].Floats[len(table[0].Floats)-1]
		if last.T != 600_000 || last.F < want[i]-1e-9 || last.F > want[i]+1e-9 {
			t.Errorf("%s: %v, want %v", expr, last, want[i])
		}
		q.Close()
	}
}

// rankingExprs are the queries of the ranking as the board holds them, about all hosts and processes.
func rankingExprs(t *testing.T) (exprs []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "provisioning", "dashboards", "pscope-fleet.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	const ranking = 10
	fill := strings.NewReplacer("$host", ".*", "$process", ".*", "$__rate_interval", "1m")
	for _, p := range board.Panels {
		if p.ID == ranking {
			for _, target := range p.Targets {
				exprs = append(exprs, fill.Replace(target.Expr))
			}
		}
	}
	return exprs
}
