package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/tools/kernels/account"
	"github.com/p-scope/p-scope/tools/kernels/plan"
)

// everything is what root sees on a supported kernel.
func everything() *account.Result {
	target := func(layout string) account.Target {
		return account.Target{
			Source: "ebpf", Layout: layout, Seconds: 40, OnCPU: 15,
			Shares: map[string]account.Share{
				"idle": {Own: 0.6, Seen: 0.595}, "gc": {Own: 0.04, Seen: 0.05}, "syscall": {Own: 0.06, Seen: 0.055},
				"running": {Own: 0.3, Seen: 0.3},
			},
			Stops: &account.Stops{GC: 20, All: 30, ByReason: map[string]uint64{"GC mark termination": 20,
				"read mem stats": 10}},
			RuntimeStops: account.Range{Least: 30, Most: 30}, RuntimeGC: account.Range{Least: 20, Most: 20},
			WakeWaits: &account.Waits{N: 100, Mean: 1e-4},
			Queues:    [][]float64{{0, 3, 3}, {4, 1, 1}, {5, 0, 0}},
			Lost:      map[string]float64{"interval_budget": 12},
		}
	}
	return &account.Result{
		User: plan.Root, Kernel: "6.1.0-50-cloud-amd64", Arch: "amd64", Mode: "ebpf", Table: target("table"),
		Search: target("search"), History: true,
		Doctor: account.Doctor{Verdict: "fine", Mode: "ebpf", Stops: "ok"},
	}
}

// snapshots is what a user without privileges sees.
func snapshots() *account.Result {
	r := everything()
	r.User, r.Mode = plan.Unprivileged, "snapshot"
	for _, t := range []*account.Target{&r.Table, &r.Search} {
		t.Source, t.Reason, t.Stops, t.WakeWaits = "snapshot", "loading BPF programs is not permitted", nil, nil
	}
	r.Doctor.Mode, r.Doctor.Stops = "snapshot", "unknown"
	return r
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name   string
		from   func() *account.Result
		change func(*account.Result)
		wrong  string // the check that fails; empty: none
	}{
		{"everything", everything, func(*account.Result) {}, ""},
		{"snapshots for one without privileges", snapshots, func(*account.Result) {}, ""},
		{"snapshots for root", everything, func(r *account.Result) { r.Mode, r.Table.Source = "snapshot", "snapshot" },
			"source, doctor agrees"},
		{"an unknown program as if known", everything, func(r *account.Result) { r.Table.Layout = "search" }, "source"},
		{"no history", everything, func(r *account.Result) { r.History = false }, "source"},
		{"snapshots without a reason", snapshots, func(r *account.Result) { r.Table.Reason = "" }, "source, stops"},
		{"a share 3 points off", everything,
			func(r *account.Result) { r.Table.Shares["gc"] = account.Share{Own: 0.04, Seen: 0.07} }, "shares"},
		{"a sampled share two points and a standard error off", everything, func(r *account.Result) {
			r.Table.Shares["gc"] = account.Share{Own: 0.04, Seen: 0.062}
		}, ""},
		{"idle two points and as much off", everything,
			func(r *account.Result) { r.Table.Shares["idle"] = account.Share{Own: 0.6, Seen: 0.622} }, "shares"},
		{"no shares", everything, func(r *account.Result) { r.Table.Shares = nil }, "shares"},
		{"states that are not the whole", everything, func(r *account.Result) { r.Table.SumError = 0.02 }, "shares"},
		{"a stop too few", everything, func(r *account.Result) { r.Table.Stops.All-- }, "stops"},
		{"a stop too many", everything, func(r *account.Result) { r.Table.Stops.All++ }, "stops"},
		{"a stop for the GC that was another", everything, func(r *account.Result) { r.Table.Stops.GC++ }, "stops"},
		{"no stops", everything, func(r *account.Result) { r.Table.Stops = nil }, "stops, doctor agrees"},
		{"no wake waits", everything, func(r *account.Result) { r.Table.WakeWaits = &account.Waits{} }, "wake waits"},
		{"wake waits by snapshots", snapshots, func(r *account.Result) { r.Table.WakeWaits = &account.Waits{N: 1} },
			"wake waits"},
		{"no samples", everything, func(r *account.Result) {
			r.Lacks = []account.Lack{{What: lack.Samples}, {What: lack.Samples, Why: "no"}}
		}, "samples"},
		{"no samples where Debian forbids them", everything, func(r *account.Result) {
			r.User, r.Kernel, r.Paranoid = plan.Documented, "6.12.1", 3
			r.Lacks = []account.Lack{{What: lack.Samples, Why: "kernel.perf_event_paranoid is 3, with which"}}
			r.Table.Shares["gc"] = account.Share{Own: 0.2}
		}, ""},
		{"no samples there, for another reason", everything, func(r *account.Result) {
			r.User, r.Kernel, r.Paranoid = plan.Documented, "6.12.1", 3
			r.Lacks = []account.Lack{{What: lack.Samples, Why: "a seccomp filter"}}
		}, "samples"},
		{"no samples though the setting allows them", everything, func(r *account.Result) {
			r.User, r.Kernel, r.Paranoid = plan.WithSysctl, "6.12.1", 2
			r.Lacks = []account.Lack{{What: lack.Samples, Why: "kernel.perf_event_paranoid is 3, with which"}}
		}, "samples"},
		{"empty queues", everything, func(r *account.Result) { r.Table.Queues = [][]float64{{0, 0}, {0, 0}, {3, 3}} },
			"run queues"},
		{"no queues", everything, func(r *account.Result) { r.Table.Queues = nil }, "run queues"},
		{"refused by the search", everything, func(r *account.Result) {
			r.Search.Source, r.Search.Layout = "refused",
				""
		}, "layout search"},
		{"a stop too few after the search", everything, func(r *account.Result) { r.Search.Stops.All-- },
			"layout search"},
		{"lost events", everything, func(r *account.Result) { r.Table.Lost["threads_full"] = 1 }, "losses"},
		{"a read that the next snapshot repairs", everything,
			func(r *account.Result) { r.Table.Lost["read_fault"] = 1 }, ""},
		{"many of them", everything, func(r *account.Result) { r.Table.Lost["read_fault"] = 40 }, "losses"},
		{"a late raw interval", everything, func(r *account.Result) { r.Table.Lost["late_interval"] = 1 }, ""},
		{"doctor thinks less of it", everything, func(r *account.Result) { r.Doctor.Mode = "snapshot" },
			"doctor agrees"},
		{"doctor sees stops where there are none", snapshots, func(r *account.Result) { r.Doctor.Stops = "ok" },
			"doctor agrees"},
		{"doctor says nothing of stops", everything, func(r *account.Result) { r.Doctor.Stops = "" }, "doctor agrees"},
		{"doctor failed", everything, func(r *account.Result) { r.Doctor.Failed = "exit status 2" }, "doctor agrees"},
		{"a check that was cut short", everything, func(r *account.Result) { r.Failed = "no target within 1m" },
			"the check came to its end"},
		{"a kernel without a promise", everything, func(r *account.Result) { r.Kernel = "5.10.0-1-amd64" },
			"the check came to its end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.from()
			c.change(r)
			var wrong []string
			for _, v := range judge(r) {
				if !v.good() {
					wrong = append(wrong, v.Check)
				}
			}
			if got := strings.Join(wrong, ", "); got != c.wrong {
				t.Errorf("wrong are %q instead of %q", got, c.wrong)
			}
		})
	}
}

// Stops that are not promised must be absent, and the reason there.
func TestJudgeWithoutStops(t *testing.T) {
	r := everything()
	p := promise{Source: "ebpf", Says: "everything but stops"}
	if v := stops(r, p); v.good() {
		t.Error("stops that are not promised were accepted")
	}
	r.Table.Stops = nil
	if v := stops(r, p); v.good() {
		t.Error("no reason was accepted")
	}
	r.Table.Reason = "probes need CAP_SYS_ADMIN"
	if v := stops(r, p); !v.good() {
		t.Error(v.Wrong)
	}
}

func TestPromised(t *testing.T) {
	for release, from := range map[string]string{"6.1.0-50-cloud-amd64": "6.1", "6.5.13": "6.1", "6.6.0": "6.6",
		"6.9.12": "6.6", "6.12.117+deb13-cloud-amd64": "6.10",
		"7.2.12": "6.10"} {
		for _, user := range []string{plan.Root, plan.Documented, plan.WithAdmin, plan.Unprivileged} {
			if p, err := promised(release, user); err != nil || p.From != from {
				t.Errorf("%s, %s: from %q instead of %q (%v)", release, user, p.From, from, err)
			}
		}
	}
	if p, err := promised("5.18.1", plan.Root); err == nil {
		t.Errorf("5.18 is promised %q", p.Says)
	}
}

// What is printed for others must be read back by the same rules.
func TestTakesOnlyResults(t *testing.T) {
	text, err := json.Marshal(everything())
	if err != nil {
		t.Fatal(err)
	}
	c := cell{Line: "6.1", Arch: "amd64", User: plan.Root}
	c.take("some line")
	c.take("[    1.2] noise " + account.ResultMark + string(text))
	if c.Result == nil || c.Result.Table.Stops.All != 30 {
		t.Fatalf("%+v", c.Result)
	}
	c.Checks = judge(c.Result)
	row := c.row()
	if len(row) != len(columns) || !slices.Contains(row, "as promised") || !slices.Contains(row, "30 / 30") {
		t.Error(row)
	}
	broken := cell{}
	broken.take(account.ResultMark + "{")
	if broken.good() {
		t.Error("half an answer was accepted")
	}
}
