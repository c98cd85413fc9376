//go:build linux

package doctor

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
)

// fakeHost is a host whose proc and sys hold the given files.
func fakeHost(t *testing.T, caps uint64, files map[string]string) *host {
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
	return &host{release: "6.1.0-13-amd64", arch: "amd64", caps: caps, root: root}
}

func TestKernelVersions(t *testing.T) {
	for release, want := range map[string]Result{
		"6.18.44-fc-v669": OK, "5.18.0": OK, "5.17.9-generic": Missing, "4.19.0-25-amd64": Missing, "10.0": OK, "nonsense": Missing,
	} {
		h := &host{release: release}
		if c := h.kernel(); c.Result != want || want == Missing && c.Fix == "" {
			t.Errorf("%s is %s with the fix %q, want %s", release, c.Result, c.Fix, want)
		}
	}
}

func TestCapabilitiesAreReadFromTheStatusFile(t *testing.T) {
	caps := effectiveCaps("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000000c000080000\n")
	h := &host{caps: caps}
	if !h.has(unix.CAP_BPF) || !h.has(unix.CAP_PERFMON) || !h.has(unix.CAP_SYS_PTRACE) || h.has(unix.CAP_SYS_ADMIN) {
		t.Errorf("capabilities are %x", caps)
	}
}

func TestSysAdminContainsBPF(t *testing.T) {
	h := &host{caps: 1 << unix.CAP_SYS_ADMIN}
	if c := h.capability(unix.CAP_BPF, "CAP_BPF", Missing, ""); c.Result != OK {
		t.Errorf("CAP_BPF is %s with CAP_SYS_ADMIN", c.Result)
	}
	if c := h.capability(unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", Limited, ""); c.Result != Limited || c.Fix == "" {
		t.Errorf("CAP_SYS_PTRACE is %s, fix %q", c.Result, c.Fix)
	}
}

func TestWhatStandsInTheWayIsNamedWithItsFix(t *testing.T) {
	h := fakeHost(t, 0, map[string]string{"sys/kernel/security/lockdown": "none integrity [confidentiality]\n"})
	for _, c := range []Check{h.btf(), h.lockdown(), h.capability(unix.CAP_BPF, "CAP_BPF", Missing, "why")} {
		if c.Result != Missing || c.Why == "" || c.Fix == "" {
			t.Errorf("%+v lacks a reason or a fix", c)
		}
	}
	h = fakeHost(t, 0, map[string]string{"sys/kernel/security/lockdown": "none [integrity] confidentiality\n", "sys/kernel/btf/vmlinux": "x"})
	for _, c := range []Check{h.btf(), h.lockdown()} {
		if c.Result != OK {
			t.Errorf("%+v, want ok", c)
		}
	}
}

func TestSnapshotsAreImpossibleUnderYamaWithoutTheCapability(t *testing.T) {
	scope := map[string]string{"proc/sys/kernel/yama/ptrace_scope": "1\n"}
	if fakeHost(t, 0, scope).canRead() {
		t.Error("ptrace_scope 1 lets nobody but the parent read a process")
	}
	if !fakeHost(t, 1<<unix.CAP_SYS_PTRACE, scope).canRead() || !fakeHost(t, 0, nil).canRead() {
		t.Error("with the capability, and without Yama, processes can be read")
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
		{"all fine", Report{Mode: "ebpf", Checks: []Check{ok, {Result: Info}}, Processes: []Process{seen}}, Fine, 0},
		{"a process is refused", Report{Mode: "ebpf", Checks: []Check{ok}, Processes: []Process{seen, refused}}, Partly, 1},
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
	r := Report{Checks: []Check{{Name: "a", Result: Missing, Fix: "be root"}, {Name: "b", Result: Missing, Fix: "be root"}}, Verdict: Nothing, Mode: "none"}
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
	for _, want := range []string{"ring_full              123 (server, pid 7)", "slow_reader            4 (the agent itself)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

// This very test is a Go process; the report must find it and say how it can be observed.
func TestFindsARealGoProcess(t *testing.T) {
	p, isGo, err := examineProcess(os.Getpid(), true, map[string]inspection{})
	if err != nil || !isGo {
		t.Fatalf("go: %v, %v", isGo, err)
	}
	if !strings.HasPrefix(p.GoVersion, "go1.") || p.Observable == "" && p.Reason == "" {
		t.Errorf("%+v says neither how it is observed nor why not", p)
	}
}
