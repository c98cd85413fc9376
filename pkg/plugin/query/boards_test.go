package query

import (
	"context"
	"encoding/json"
	"math"
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
	// The tool lives for 40 s in the middle of the range; what has just started is still there at its end.
	const series = `load 10s
pscope_target_info{host="h",process="server",process_pid="1",source="ebpf"} 1x60
pscope_target_info{host="h",process="tool",process_pid="2",source="ebpf"} _x30 1x4 stale
pscope_target_info{host="h",process="young",process_pid="3",source="ebpf"} _x58 1x2
pscope_p_seconds_total{host="h",process="young",process_pid="3",p="0",state="running"} _x58 0+1x2
pscope_p_thread_seconds_total{host="h",process="young",process_pid="3",p="0",thread_state="runnable"} _x58 0+1x2
pscope_p_uninterruptible_seconds_total{host="h",process="young",process_pid="3",p="0"} _x58 0+1x2
pscope_p_stop_seconds_total{host="h",process="young",process_pid="3",p="0"} _x58 0+1x2
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
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, EnableAtModifier: true})

	want := []float64{.5, .2, .1, .3, 0} // busy, D share, CPU wait, stopped, imbalance
	exprs := rankingExprs(t)
	if len(exprs) != len(want) {
		t.Fatalf("%d columns", len(exprs))
	}
	for i, expr := range exprs {
		q, err := engine.NewRangeQuery(context.Background(), storage, nil, expr, time.Unix(0, 0), time.Unix(600, 0),
			10*time.Second)
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		table, err := q.Exec(context.Background()).Matrix()
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		last := map[string]promql.FPoint{}
		for _, s := range table {
			last[s.Metric.Get("process")] = s.Floats[len(s.Floats)-1]
		}
		_, young := last["young"]
		if len(last) != 2 || !young {
			t.Errorf("%s: %v, want the server and the young process", expr, last)
		}
		if got := last["server"]; got.T != 600_000 || math.Abs(got.F-want[i]) > 1e-9 {
			t.Errorf("%s: %v, want %v", expr, got, want[i])
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
