//go:build linux

package doctor

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// fakeHost is a host whose proc and sys hold the given files.
func fakeHost(t *testing.T, caps lack.Held, files map[string]string) *host {
	t.Helper()
	root := t.TempDir() + "/"
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := readHost(root)
	h.Held = caps
	return h
}

func TestCapabilitiesAreReadFromTheStatusFile(t *testing.T) {
	h := readHost(fakeHost(t, 0,
		map[string]string{"proc/self/status": "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000000c000080000\nSeccomp:\t2\n"}).root)
	if !h.Held.Has(lack.CapBPF) || !h.Held.Has(lack.CapPerfmon) || !h.Held.Has(lack.CapSysPtrace) ||
		h.Held.Has(lack.CapSysAdmin) || !h.Seccomp {
		t.Errorf("%+v", h.Host)
	}
}

// What was only looked up is never ok, and what is missing has a reason and a fix.
func TestWhatTheHostSaysIsNotTakenForTried(t *testing.T) {
	h := fakeHost(t, 0, map[string]string{"sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
		"sys/kernel/btf/vmlinux": "x"})
	for _, c := range h.checks(false) {
		if c.Result == OK || c.Tried {
			t.Errorf("%+v was not tried", c)
		}
		if c.Result == Missing && (c.Why == "" || c.Fix == "") {
			t.Errorf("%+v lacks a reason or a fix", c)
		}
	}
	for _, c := range h.checks(true) {
		if c.Result == Missing {
			t.Errorf("%+v is missing, and yet the programs were loaded", c)
		}
		if c.Result == OK && !c.Tried {
			t.Errorf("%+v was not tried", c)
		}
	}
}

// TestAUnitThatHidesThePackages: who has a unit of one's own beside the package's is told; others are not.
func TestAUnitThatHidesThePackages(t *testing.T) {
	unit := func(files map[string]string, mask bool) string {
		h := fakeHost(t, 0, files)
		if mask {
			own := filepath.Join(h.root, ownUnit)
			if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(os.DevNull, own); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range h.checks(true) {
			if c.Name == "unit" {
				return c.Detail + "; " + c.Fix
			}
		}
		return ""
	}
	packaged := map[string]string{packagedUnit: "[Service]\n"}
	both := map[string]string{packagedUnit: "[Service]\n", ownUnit: "[Service]\n"}
	for name, c := range map[string]struct{ got, want string }{
		"none":     {unit(nil, false), ""},
		"packaged": {unit(packaged, false), ""},
		"own":      {unit(map[string]string{ownUnit: "[Service]\n"}, false), ""},
		"both":     {unit(both, false), "systemctl edit pscope-agent"},
		"masked":   {unit(packaged, true), "systemctl unmask pscope-agent"},
	} {
		if c.want == "" && c.got != "" || !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %q", name, c.got)
		}
	}
}

func TestSnapshotsAreImpossibleUnderYamaWithoutTheCapability(t *testing.T) {
	scope := map[string]string{"proc/sys/kernel/yama/ptrace_scope": "1\n"}
	if !fakeHost(t, 0, scope).onlyChildren() {
		t.Error("ptrace_scope 1 lets nobody but the parent read a process")
	}
	if fakeHost(t, 1<<unix.CAP_SYS_PTRACE, scope).onlyChildren() || fakeHost(t, 0, nil).onlyChildren() {
		t.Error("with the capability, and without Yama, processes can be read")
	}
	snapshots := Trial{Mode: "snapshot", Source: pstate.SourceSnapshot}
	for _, tc := range []struct {
		trial        Trial
		processes    []Process
		onlyChildren bool
		want         string
	}{
		{snapshots, nil, false, "snapshot"},
		{snapshots, nil, true, "none"},
		{snapshots, []Process{{Observable: "snapshot"}}, true, "snapshot"},
		{Trial{Mode: "snapshot", Source: pstate.SourceRefused}, nil, false, "none"},
		{Trial{Mode: "ebpf", Source: pstate.SourceEBPF}, nil, true, "ebpf"},
		{Trial{Failed: "too slow"}, []Process{{Observable: "snapshot"}}, true, "unknown"},
		{Trial{Mode: "ebpf", Source: pstate.SourceRefused}, nil, true, "none"},
	} {
		r := Report{Trial: &tc.trial, Processes: tc.processes}
		if r.decide(tc.onlyChildren); r.Mode != tc.want {
			t.Errorf("%+v: %s, want %s", tc, r.Mode, tc.want)
		}
	}
}

// Each thing that an agent does is ok only if it was seen to work.
func TestFindings(t *testing.T) {
	good := func() *Trial {
		return &Trial{
			Mode: "ebpf", Source: pstate.SourceEBPF, Account: Account{Stops: 16, CPU: 200 * time.Millisecond,
				Switches: 100}, Programs: []string{"a"},
			Changes: 10, WakeUps: 3, Stops: 16, StopsBy: []string{"perf event"}, CPU: 190 * time.Millisecond,
			counted: 200 * time.Millisecond,
			Sampled: []int{0, 1}, Windows: 100 * time.Millisecond, worked: true, sampled: true,
		}
	}
	denied := collector.Lack{What: lack.EBPF, Why: "CAP_BPF is not held", Fix: "be root"}
	for _, tc := range []struct {
		name   string
		change func(*Trial)
		check  string
		want   Result
		detail string
	}{
		{"a stop is not seen", func(t *Trial) { t.Stops = 15 }, "stops", Limited, "15 of 16"},
		{"no stop is seen", func(t *Trial) { t.Stops = 0 }, "stops", Limited, "0 of 16"},
		{"no probe", func(t *Trial) { t.Reason = lack.NoStops("not permitted") }, "stops", Limited, "not permitted"},
		{"no switch", func(t *Trial) { t.Changes = 0 }, "switches", Limited, "0 changes"},
		{"no wake-up", func(t *Trial) { t.WakeUps = 0 }, "wake-ups", Limited, "0 hand-overs"},
		{"a CPU without samples", func(t *Trial) { t.Sampled, t.Unsampled = []int{0}, []int{1} }, "samples", Limited,
			"seen on 1 of 2 CPUs (CPU 0); none on CPU 1"},
		{"a CPU that is not ours", func(t *Trial) { t.Sampled, t.Untried = []int{0, 1, 2}, []int{3, 5} }, "samples", OK,
			"seen on 3 of 5 CPUs (CPUs 0-2); not tried on CPUs 3,5"},
		{"no samples", func(t *Trial) {
			t.sampled = false
			t.Lacks = []collector.Lack{{What: lack.Samples,
				Why: "denied"}}
		}, "samples", Limited, "denied"},
		{"half of the time", func(t *Trial) { t.CPU /= 2 }, "time on a CPU", Limited, "95ms observed, 200ms"},
		{"no window", func(t *Trial) { t.Windows, t.NoWindows = 0, "too late" }, "migrations", Unknown,
			"not tried: too late"},
		{"no window is allowed", func(t *Trial) { t.Windows, t.Reason = 0, lack.NoMigrations("denied") }, "migrations",
			Limited, "denied"},
		{"no eBPF", func(t *Trial) {
			t.Mode, t.Source, t.Lacks = "snapshot", pstate.SourceSnapshot, []collector.Lack{denied}
		}, "eBPF", Missing, "CAP_BPF is not held"},
		{"no eBPF, no stops", func(t *Trial) {
			t.Mode, t.Source, t.Lacks = "snapshot", pstate.SourceSnapshot, []collector.Lack{denied}
		}, "stops", Unknown, "not tried: eBPF is missing"},
		{"no child", func(t *Trial) { *t = Trial{Failed: "no child"} }, "eBPF", Unknown, "not tried: no child"},
		{"a child that can't be read", func(t *Trial) { t.Source, t.Reason = pstate.SourceRefused, "denied" },
			"process memory", Missing, "denied"},
		{"a child that ended", func(t *Trial) { t.worked, t.Failed = false, "it has ended" }, "switches", Unknown,
			"not tried: it has ended"},
	} {
		for _, c := range good().findings() {
			if c.Result != OK || !c.Tried {
				t.Fatalf("all is well, but %+v", c)
			}
		}
		trial := good()
		tc.change(trial)
		found := false
		for _, c := range trial.findings() {
			if c.Result == OK && !c.Tried {
				t.Errorf("%s: %+v is ok and was not tried", tc.name, c)
			}
			if c.Name != tc.check {
				continue
			}
			found = true
			if c.Result != tc.want || !strings.Contains(c.Detail, tc.detail) {
				t.Errorf("%s: %+v", tc.name, c)
			}
		}
		if !found {
			t.Errorf("%s: there is no line %q", tc.name, tc.check)
		}
	}
}

func TestCPULists(t *testing.T) {
	for _, list := range []string{"0", "0-3,8", "1,3,5-7"} {
		if got := strings.Fields(cpuList(parseCPUs(list + "\n")))[1]; got != list {
			t.Errorf("%s became %s", list, got)
		}
	}
	if got := parseCPUs("x,2-1,-,\x00"); len(got) != 0 {
		t.Error(got)
	}
	if n := len(parseCPUs("0-99999999")); n != mostCPUs {
		t.Errorf("%d CPUs", n)
	}
}

func TestVerdictsAndExitCodes(t *testing.T) {
	ok, less := Check{Result: OK}, Check{Result: Limited}
	seen, refused := Process{Observable: "ebpf"}, Process{Reason: "x"}
	for _, tc := range []struct {
		name string
		r    Report
		want Verdict
		code int
	}{
		{"a process without stops",
			Report{Mode: "ebpf", Processes: []Process{{Observable: "ebpf", Reason: "stops are not seen: x"}}}, Partly,
			1},
		{"all fine", Report{Mode: "ebpf", Checks: []Check{ok, {Result: Info}}, Processes: []Process{seen}}, Fine, 0},
		{"a process is refused", Report{Mode: "ebpf", Checks: []Check{ok}, Processes: []Process{seen, refused}}, Partly,
			1},
		{"a capability is missing", Report{Mode: "ebpf", Checks: []Check{less}}, Partly, 1},
		{"snapshots only", Report{Mode: "snapshot", Checks: []Check{{Result: Missing}}}, Partly, 1},
		{"nothing", Report{Mode: "none", Checks: []Check{{Result: Missing}}}, Nothing, 2},
	} {
		tc.r.judge()
		if tc.r.Verdict != tc.want || tc.r.exitCode() != tc.code {
			t.Errorf("%s: %s, exit code %d; want %s, %d", tc.name, tc.r.Verdict, tc.r.exitCode(), tc.want, tc.code)
		}
	}
}

func TestOneRemedyIsSaidOnce(t *testing.T) {
	r := Report{Checks: []Check{{Name: "a", Result: Missing, Fix: "be root"},
		{Name: "b", Result: Missing, Fix: "be root"}}, Verdict: Nothing, Mode: "none"}
	var out bytes.Buffer
	r.print(&out)
	if n := strings.Count(out.String(), "be root"); n != 1 {
		t.Errorf("the remedy is said %d times:\n%s", n, out.String())
	}
}

func TestLossesOfARunningAgentAreShown(t *testing.T) {
	r := Report{Verdict: Fine, Mode: "ebpf", Agent: &Agent{Address: "a", Losses: []client.Loss{
		{Reason: "ring_full", Process: "server", PID: "7", Count: 123}, {Reason: "slow_reader", Count: 4},
	}}}
	var out bytes.Buffer
	r.print(&out)
	for _, want := range []string{"ring_full              123 (server, pid 7)", "slow_reader            4 (the agent " +
		"itself)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
