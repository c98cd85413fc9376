package frames

import (
	"flag"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/grafana/grafana-plugin-sdk-go/experimental"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

var update = flag.Bool("update", false, "write the golden frames anew")

var base = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func second(n int) time.Time { return base.Add(time.Duration(n) * time.Second) }

// curve of a P of a process, with a value for each second from 0.
func curve(process, p string, values ...float64) Curve {
	c := Curve{Labels: data.Labels{"host": "web-1", "process": process, "process_pid": "17", "p": p}, Values: values}
	for i := range values {
		c.Times = append(c.Times, second(i))
	}
	return c
}

// TestGolden compares every shape of frame with what is committed in testdata: what panels and rules were tried with
// must not change unseen. Run with -update after a change that is meant.
func TestGolden(t *testing.T) {
	share := Look{Name: "state", Unit: "percentunit", Step: time.Second, Share: true, Query: "sum by (p) (rate(x[2s]))"}
	palette := StatePalette()
	nanos := func(seconds float64) int64 { return base.UnixNano() + int64(seconds*1e9) }
	lanes := []Lane{
		{Labels: data.Labels{"host": "web-1", "process": "api", "process_pid": "17", "p": "10"},
			Spans: []Span{{nanos(0), nanos(.25), 0}, {nanos(.25), nanos(2), 3}}},
		{Labels: data.Labels{"host": "web-1", "process": "api", "process_pid": "17", "p": "2"},
			Spans: []Span{{nanos(0), nanos(1), 6}, {nanos(1.5), nanos(3), 1}}},
	}
	hist := []Histogram{
		{Time: second(0), Buckets: []Bucket{{0, 0, 9}, {2, 4, 1}}},
		{Time: second(1)},
		{Time: second(2), Buckets: []Bucket{{0, 1, 3}, {0, 0, 4}}},
	}
	waits := []Histogram{{Time: second(0), Buckets: []Bucket{{.001, .002, 5}, {0, .0005, 2}}},
		{Time: second(1), Buckets: []Bucket{{.001, .002, 1}}}}
	target := &pscopev1.Target{Key: &pscopev1.TargetKey{Pid: 17, StartTime: 99}, Process: "api", Host: "web-1",
		GoVersion: "go1.26.8", Source: "ebpf",
		Layout: "dwarf", Gomaxprocs: 4, StartedUnixNano: nanos(-60), Container: "c1", Pod: "api-0", Namespace: "shop",
		Cgroup: "/kube/c1"}
	for name, fs := range map[string]data.Frames{
		"series":      Series([]Curve{curve("api", "10", .5, 1.2), curve("api", "2", .25, 0)}, share),
		"series_none": Series(nil, share),
		"series_legend": Series([]Curve{curve("api", "2", 1)},
			Look{Name: "runq", Unit: "short", Legend: "{{process}}/{{ pid }} lane {{p}}{{nothing}}"}),
		"wide": {Wide([]Curve{curve("api", "2", .25, .5),
			{Labels: data.Labels{"process": "db"}, Times: []time.Time{second(1)}, Values: []float64{1}}}, share)},
		"lanes":         {Lanes([]Curve{curve("api", "10", .5, 1.2), curve("api", "2", .25, 0)}, share)},
		"lanes_many":    {Lanes([]Curve{curve("db", "0", .5), curve("api", "0", .25)}, share)},
		"rows":          {Rows(hist, Look{Step: time.Second})},
		"cells":         {Cells(waits, Look{Step: time.Second, Unit: "s"})},
		"timeline":      Timeline(lanes, palette, 100),
		"timeline_wide": {TimelineWide(lanes, palette, second(0), second(2), time.Second)},
		"stops": {Stops([]*pscopev1.Stop{
			{Key: target.GetKey(), Process: "api", Host: "web-1", StartUnixNano: nanos(1), EndUnixNano: nanos(1.003),
				Reason:   "GC mark termination",
				Arrivals: []*pscopev1.StopArrival{{P: 0, AfterNanos: 10_000}, {P: 3, AfterNanos: 900_000}}},
			{Key: target.GetKey(), Process: "api", Host: "web-1", StartUnixNano: nanos(2), Reason: "GOMAXPROCS"},
		})},
		"blocked": {Blocked([]*pscopev1.BlockedThread{
			{Target: target, Tid: 18, Comm: "api", LastP: 3, State: pscopev1.ThreadState_THREAD_STATE_UNINTERRUPTIBLE,
				SinceUnixNano: nanos(0), ThreadNanos: []uint64{0, 0, 1e9, 2e9, 3e9, 4e9, 0}},
			{Target: target, Tid: 19, Comm: "net", LastP: -1, State: pscopev1.ThreadState_THREAD_STATE_SLEEPING},
		})},
		"diagnosis": {Diagnosis([]*pscopev1.Finding{{Key: target.GetKey(), Process: "api", Host: "web-1",
			Ps: []int32{0, 1, 2, 7}, Kind: "uninterruptible", Severity: "critical",
			Evidence: "P3 was in D for 40 s of 60 s", Advice: "Look at the storage", Value: .66}})},
		"targets": {Targets([]*pscopev1.Target{target, {Key: &pscopev1.TargetKey{Pid: 5}, Process: "old", Host: "web-1",
			Source: "refused", Reason: "Go 1.19 is older than 1.21"}})},
	} {
		t.Run(name, func(t *testing.T) {
			r := backend.DataResponse{Frames: fs, Status: backend.StatusOK}
			experimental.CheckGoldenJSONResponse(t, "testdata", name, &r, *update)
		})
	}
}
