//go:build linux

package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// These tests run the real program: as root, as other users with some capabilities, in namespaces, and with calls
// forbidden.

// program is pscope, where every user may run it.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pscope-doctor")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "pscope")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/p-scope/p-scope/pkg/cmd/pscope").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	if forbidden := os.Getenv(forbidCall); forbidden != "" {
		fmt.Fprintln(os.Stderr, withoutCall(forbidden, os.Args[1:]))
		os.Exit(99)
	}
	code := m.Run()
	if bin, err := program(); err == nil {
		os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

func pscope(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("becoming other users takes root")
	}
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// patience is for machines on which everything runs at once.
const patience = "2m"

// nobody is another user than root (the kernel's overflow id, which owns nothing).
const nobody = 65534

// as makes a command run as root with everything ("root"), or as nobody with exactly these capabilities.
func as(t *testing.T, user string, command ...string) *exec.Cmd {
	t.Helper()
	if user == "root" {
		return exec.Command(command[0], command[1:]...)
	}
	args := []string{"--reuid", strconv.Itoa(nobody), "--regid", strconv.Itoa(nobody), "--clear-groups",
		"--inh-caps=-all"}
	if user != "" {
		args = append(args[:5:5], "--inh-caps=-all,"+user, "--ambient-caps=-all,"+user)
	}
	return exec.Command("setpriv", append(args, command...)...)
}

// examined runs doctor and gives its report.
func examined(t *testing.T, cmd *exec.Cmd) (*Report, int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := &Report{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.Bytes(), errs.Bytes())
	}
	for _, c := range r.Checks {
		if c.Result == OK && !c.Tried {
			t.Errorf("%+v is ok and was not tried", c)
		}
	}
	if t.Failed() || testing.Verbose() {
		t.Cleanup(func() {
			for _, c := range r.Checks {
				t.Logf("%s %s: %s %s", c.Result, c.Name, c.Detail, c.Fix)
			}
			t.Logf("%s", errs.Bytes())
		})
	}
	return r, cmd.ProcessState.ExitCode()
}

func (r *Report) check(name string) Check {
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	return Check{}
}

// users are those that doctor and agent are compared as.
var users = []struct{ name, caps string }{
	{"root", "root"},
	{"no capability", ""},
	{"CAP_BPF alone", "+bpf"},
	{"without CAP_SYS_PTRACE", "+bpf,+perfmon"},
	{"the four capabilities", "+bpf,+perfmon,+sys_ptrace,+dac_read_search"},
}

// lockedBuffer can be read while a process still writes to it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Doctor says what an agent then does: the same mode, the same lacks, and of each process the same source and reason,
// in the same words.
func TestDoctorAndAgentAgree(t *testing.T) {
	bin := pscope(t)
	for _, user := range users {
		t.Run(user.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := errors.Join(os.Chown(dir, nobody, nobody), openUp(dir)); err != nil {
				t.Fatal(err)
			}
			target := asTarget(t, user.caps, bin)
			socket := filepath.Join(dir, "pscope.sock")
			agent := as(t, user.caps, bin, "agent", "--socket", socket, "--listen", "", "--data-dir",
				filepath.Join(dir, "data"))
			var log lockedBuffer
			agent.Stderr = &log
			if err := agent.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = agent.Process.Signal(syscall.SIGTERM)
				_ = agent.Wait()
				if t.Failed() {
					lines := strings.Split(log.String(), "\n")
					t.Log(strings.Join(lines[max(0, len(lines)-20):], "\n"))
				}
			}()
			said := askUntil(t, socket, target.cmd.Process.Pid)
			r, code := examined(t, as(t, user.caps, bin, "doctor", "--json", "--patience", patience, "--socket",
				socket))
			if want := map[Verdict]int{Fine: 0, Partly: 1, Nothing: 2}[r.Verdict]; code != want {
				t.Errorf("%s ends with %d", r.Verdict, code)
			}
			if said.GetAgent().GetMode() != r.Mode {
				t.Errorf("the agent's mode is %s, doctor says %s", said.GetAgent().GetMode(), r.Mode)
			}
			sameLacks(t, said.GetAgent(), r.Lacks)
			sameProcesses(t, said.GetTargets(), r.Processes, target.cmd.Process.Pid)
			if l := lackIn(r.Lacks, lack.EBPF); l != nil && (!strings.Contains(log.String(), "eBPF can't be used") ||
				!strings.Contains(log.String(), strconv.Quote(l.Why))) {
				t.Errorf("the log gives another reason than %q", l.Why)
			}
		})
	}
}

// openUp lets every user into a directory and those above it that the test made.
func openUp(dir string) error {
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// running is a child that the test started.
type running struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *json.Decoder
}

func (c *running) work() (a Account, err error) {
	if _, err = fmt.Fprintln(c.stdin, "work"); err == nil {
		err = c.out.Decode(&a)
	}
	return a, err
}

// asTarget starts a Go program of this user's, to be observed.
func asTarget(t *testing.T, user, bin string) *running {
	t.Helper()
	cmd := as(t, user, bin, ChildCommand)
	if user != "root" {
		cmd = as(t, "", bin, ChildCommand)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	c := &running{cmd, in, json.NewDecoder(out)}
	var ready Account
	if err := c.out.Decode(&ready); err != nil {
		t.Fatal(err)
	}
	return c
}

// askUntil asks an agent until it lists a process for good.
func askUntil(t *testing.T, socket string, pid int) *pscopev1.ListTargetsResponse {
	t.Helper()
	o := client.Options{Socket: socket}
	deadline := time.Now().Add(time.Minute)
	for {
		c, err := o.Dial()
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.ListTargets(t.Context(), connect.NewRequest(&pscopev1.ListTargetsRequest{}))
		if err == nil {
			for _, target := range resp.Msg.GetTargets() {
				if int(target.GetKey().GetPid()) == pid {
					return resp.Msg
				}
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is not listed within a minute: %v", pid, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func lackIn(lacks []collector.Lack, what string) *collector.Lack {
	for i := range lacks {
		if lacks[i].What == what {
			return &lacks[i]
		}
	}
	return nil
}

// ofProcesses says whether a lack names processes that may not be looked at: which ones changes from moment to moment.
func ofProcesses(what string) bool {
	return what == lack.OtherUsers || strings.HasPrefix(what, "a look at ")
}

func sameLacks(t *testing.T, agent *pscopev1.Agent, doctor []collector.Lack) {
	t.Helper()
	var said []collector.Lack
	for _, l := range agent.GetLacks() {
		said = append(said, collector.Lack{What: l.GetWhat(), Why: l.GetWhy(), Fix: l.GetFix()})
	}
	for _, pair := range []struct {
		name     string
		one, two []collector.Lack
	}{{"the agent", said, doctor}, {"doctor", doctor, said}} {
		for _, l := range pair.one {
			if !ofProcesses(l.What) && !slices.Contains(pair.two, l) {
				t.Errorf("%s alone says %+v; the other has %+v", pair.name, l, pair.two)
			}
		}
	}
	if a, d := lackIn(said, lack.OtherUsers), lackIn(doctor, lack.OtherUsers); (a == nil) != (d == nil) || a != nil &&
		a.Fix != d.Fix {
		t.Errorf("processes of other users: the agent says %+v, doctor %+v", a, d)
	}
}

func sameProcesses(t *testing.T, agent []*pscopev1.Target, doctor []Process, pid int) {
	t.Helper()
	compared := false
	for _, a := range agent {
		for _, d := range doctor {
			// What the governor leaves out for a while is not for doctor to foresee.
			if int(a.GetKey().GetPid()) != d.PID || a.GetExe() != d.Exe ||
				strings.Contains(a.GetReason(), "--cost-budget") {
				continue
			}
			source := d.Observable
			if source == "" {
				source = string(pstate.SourceRefused)
			}
			if a.GetSource() != source || a.GetReason() != d.Reason || a.GetLayout() != string(d.Layout) {
				t.Errorf("%s (%d): the agent has %s, %q, layout %s; doctor says %s, %q, layout %s",
					d.Process, d.PID, a.GetSource(), a.GetReason(), a.GetLayout(), source, d.Reason, d.Layout)
			}
			compared = compared || d.PID == pid
		}
	}
	if !compared {
		t.Errorf("the process %d that the test started is not in both: %v", pid, doctor)
	}
}

// Each kind of failure that can be had here is named, with its fix.
func TestWhatFailsIsNamed(t *testing.T) {
	bin := pscope(t)
	doctor := []string{bin, "doctor", "--json", "--patience", patience}
	shell := func(script string, args ...string) *exec.Cmd {
		return exec.Command("unshare", append(args, "sh", "-c", script, "sh", bin)...)
	}
	for _, tc := range []struct {
		name  string
		cmd   func() *exec.Cmd
		mode  string
		check string
		want  Result
		says  []string
		fix   string
	}{
		{"root", func() *exec.Cmd { return as(t, "root", doctor...) }, "ebpf", "stops", OK,
			[]string{" seen, probes attached by "}, ""},
		{"no capability", func() *exec.Cmd { return as(t, "", doctor...) }, "snapshot", "eBPF", Missing,
			[]string{"CAP_BPF and CAP_PERFMON are not held", "BPF_MAP_CREATE", "operation not permitted"}, "setcap"},
		{"CAP_BPF alone", func() *exec.Cmd { return as(t, "+bpf", doctor...) }, "snapshot", "eBPF", Missing,
			[]string{"CAP_PERFMON is not held", "BPF_PROG_LOAD"}, "setcap"},
		{"without CAP_SYS_PTRACE", func() *exec.Cmd { return as(t, "+bpf,+perfmon", doctor...) }, "ebpf",
			lack.CapSysPtrace, Limited, []string{"not held"}, "setcap"},
		{"no BTF", func() *exec.Cmd {
			return shell(`mount -t tmpfs none /sys/kernel/btf && exec "$1" doctor --json --patience `+patience, "-m")
		}, "snapshot", "eBPF", Missing, []string{"BTF", "is not there"}, "CONFIG_DEBUG_INFO_BTF"},
		{"a PID namespace", func() *exec.Cmd {
			return shell(`exec "$1" doctor --json --patience `+patience, "-p", "-f", "--mount-proc")
		}, "snapshot", "eBPF", Missing,
			[]string{"PID namespace"}, "--pid host"},
		{"a user namespace", func() *exec.Cmd {
			return shell(`exec "$1" doctor --json --patience `+patience, "-U", "-r")
		}, "snapshot", "eBPF", Missing,
			[]string{"user namespace", "rootless"}, "on the host"},
		{"bpf forbidden by seccomp", func() *exec.Cmd { return forbidding(unix.SYS_BPF, doctor...) }, "snapshot",
			"eBPF", Missing,
			[]string{"seccomp filter", "BPF_"}, "seccomp profile"},
		{"perf events forbidden by seccomp",
			func() *exec.Cmd { return forbidding(unix.SYS_PERF_EVENT_OPEN, doctor...) }, "ebpf", "samples", Limited,
			[]string{"seccomp filter", "cpu-clock event of CPU 0"}, "perf_event_open"},
		{"reading memory forbidden by seccomp",
			func() *exec.Cmd { return forbidding(unix.SYS_PROCESS_VM_READV, doctor...) }, "none", "process memory",
			Missing,
			[]string{"can't be read"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, _ := examined(t, tc.cmd())
			c := r.check(tc.check)
			if r.Mode != tc.mode || c.Result != tc.want {
				t.Errorf("mode %s, want %s; %+v, want %s", r.Mode, tc.mode, c, tc.want)
			}
			for _, want := range tc.says {
				if !strings.Contains(c.Detail, want) {
					t.Errorf("%q is not in %q", want, c.Detail)
				}
			}
			if !strings.Contains(c.Fix, tc.fix) {
				t.Errorf("%q is not in the fix %q", tc.fix, c.Fix)
			}
		})
	}
}

// forbidCall is set in a process of this test that forbids itself a system call and then runs another program.
const forbidCall = "PSCOPE_TEST_FORBID"

func forbidding(call int, command ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", command...)
	cmd.Env = append(os.Environ(), forbidCall+"="+strconv.Itoa(call))
	return cmd
}

// withoutCall answers a system call with EPERM from now on, as the filters of container runtimes do (seccomp(2)), and
// runs a program.
func withoutCall(forbidden string, command []string) error {
	call, err := strconv.ParseUint(forbidden, 10, 32)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number comes first in struct seccomp_data
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(call), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(unix.EPERM)}, // SECCOMP_RET_ERRNO
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},                      // SECCOMP_RET_ALLOW
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0,
		uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errno
	}
	_ = os.Unsetenv(forbidCall)
	return unix.Exec(command[0], command, os.Environ())
}

// A doctor that is interrupted, or killed, leaves no process behind.
func TestNothingIsLeftBehind(t *testing.T) {
	bin := pscope(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd := exec.Command(bin, "doctor", "--json")
			var errs lockedBuffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { _ = cmd.Wait(); close(ended) }()
			defer cmd.Process.Kill()
			var child int
			for begun := time.Now(); child == 0; time.Sleep(10 * time.Millisecond) {
				if time.Since(begun) > 20*time.Second {
					t.Fatal("it starts no child")
				}
				child = childOf(cmd.Process.Pid)
			}
			time.Sleep(300 * time.Millisecond)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Fatal("it goes on")
			}
			if sig != syscall.SIGKILL &&
				(cmd.ProcessState.ExitCode() != 2 || !strings.Contains(errs.String(), "interrupted")) {
				t.Errorf("code %d: %s", cmd.ProcessState.ExitCode(), errs.String())
			}
			for begun := time.Now(); unix.Kill(child, 0) == nil; time.Sleep(10 * time.Millisecond) {
				if time.Since(begun) > 10*time.Second {
					t.Fatalf("the child %d still lives", child)
				}
			}
		})
	}
}

// childOf gives a child of a process, 0 if it has none.
func childOf(parent int) int {
	stats, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, file := range stats {
		if strings.Contains(readSmall(file), fmt.Sprintf("\nPPid:\t%d\n", parent)) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return child
		}
	}
	return 0
}

// An agent sees all of its target while a doctor comes and goes beside it, and the doctor all of its child.
func TestDoctorDisturbsNoAgent(t *testing.T) {
	bin := pscope(t)
	target := asTarget(t, "root", bin)
	pid := int32(target.cmd.Process.Pid)
	col, err := collector.New(collector.Options{Mode: collector.ModeEBPF, Only: pid, CostBudget: -1,
		IntervalBudget: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = col.Run(ctx) })
	defer func() { cancel(); wg.Wait() }()
	view := func() (stops uint64, onCPU time.Duration, lost map[string]uint64, ok bool) {
		views := col.Views(time.Now())
		if len(views) == 0 {
			return
		}
		v := &views[0]
		for _, h := range v.StopHist {
			stops += h.Count
		}
		for i := range v.Ps {
			onCPU += v.Ps[i].ThreadTime(pstate.OnCPU)
		}
		return stops, onCPU, v.Lost, v.Source == pstate.SourceEBPF
	}
	until(t, "the target is observed", func() bool { _, _, _, ok := view(); return ok })
	time.Sleep(300 * time.Millisecond)
	_, before, _, _ := view()
	var a Account
	var worked error
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for worked == nil {
			var one Account
			if one, worked = target.work(); worked == nil {
				a.Stops, a.CPU = a.Stops+one.Stops, a.CPU+one.CPU
			}
			select {
			case <-end:
				return
			default:
			}
		}
	}()
	r, _ := examined(t, exec.Command(bin, "doctor", "--json", "--patience", patience))
	close(end)
	<-ended
	if worked != nil {
		t.Fatal(worked)
	}
	until(t, "all stops are seen", func() bool { stops, _, _, _ := view(); return stops >= a.Stops })
	stops, onCPU, lost, _ := view()
	delete(lost, "late_interval") // the machine was busy; the totals have it
	if stops != a.Stops || len(lost) > 0 {
		t.Errorf("beside a doctor, %d of %d stops were seen, and lost: %v", stops, a.Stops, lost)
	}
	if off := (onCPU - before - a.CPU).Abs(); off > a.CPU/5 {
		t.Errorf("beside a doctor, %v on a CPU were seen of %v", onCPU-before, a.CPU)
	}
	for _, name := range []string{"eBPF", "switches", "wake-ups", "stops"} {
		if c := r.check(name); c.Result != OK {
			t.Errorf("beside an agent: %+v", c)
		}
	}
	if r.Trial.Stops != r.Trial.Account.Stops {
		t.Errorf("beside an agent, doctor saw %d of %d stops of its child", r.Trial.Stops, r.Trial.Account.Stops)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
