package collector

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// These tests are about the target: whatever the agent does, and whatever becomes of it, the target goes on and
// computes what it would have computed. bench/safety does the same a thousand times.

// buildIn builds a test program under a name in a folder.
func buildIn(t *testing.T, source, out string, env []string, flags ...string) string {
	t.Helper()
	cmd := exec.Command("go", append(append([]string{"build", "-buildvcs=false", "-o", out}, flags...), ".")...)
	cmd.Dir = filepath.Join("testdata", source)
	cmd.Env = append(append(os.Environ(), "GOFLAGS=", "GOWORK=off"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// startChecker runs the program that checks its own results.
func startChecker(t *testing.T) *child {
	t.Helper()
	bin := buildIn(t, "checker", filepath.Join(t.TempDir(), "pscope-test-target"), nil)
	cmd := exec.Command(bin)
	c, stdin := piped(t, cmd)
	c.out.Scan()
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the program ended with %v", err)
		}
	})
	return c
}

// rounds demands that the checker has gone on.
func (c *child) rounds(last int) int {
	c.t.Helper()
	for {
		answer := c.say("")
		n, err := strconv.Atoi(strings.TrimPrefix(answer, "rounds "))
		if err != nil {
			c.t.Fatalf("the program says %q", answer)
		}
		if n > last {
			return n
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAttachAndDetachLeaveTheTargetAlone(t *testing.T) {
	p := startChecker(t)
	n := p.rounds(0)
	for range 6 {
		c, err := New(Options{Mode: ModeEBPF, Include: regexp.MustCompile("^pscope-test-target$")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = c.Run(ctx) })
		seen(t, c, p.cmd.Process.Pid)
		n = p.rounds(n)
		cancel()
		wg.Wait()
		n = p.rounds(n)
	}
}

// asAgent makes the test binary an agent that tells of what it observes and waits to be killed.
const asAgent = "PSCOPE_TEST_AS_AGENT"

func runAsAgent() {
	c, err := New(Options{Mode: ModeEBPF, Include: regexp.MustCompile("^pscope-test-target$")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() { _ = c.Run(context.Background()) }()
	for told := false; ; time.Sleep(time.Millisecond) {
		if !told && len(c.Views(time.Now())) > 0 {
			fmt.Println("observing")
			told = true
		}
	}
}

func TestTheAgentsDeathLeavesTheTargetAlone(t *testing.T) {
	p := startChecker(t)
	n := p.rounds(0)
	for i := range 6 {
		agent := exec.Command("/proc/self/exe")
		agent.Env = append(os.Environ(), asAgent+"=1")
		out, err := agent.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
		if line, _ := bufio.NewReader(out).ReadString('\n'); line != "observing\n" {
			t.Errorf("the agent said %q", line)
		}
		time.Sleep(time.Duration(i*7%40) * time.Millisecond)
		_ = agent.Process.Kill()
		_ = agent.Wait()
		n = p.rounds(n)
	}
	// The next agent finds nothing in its way.
	c, _ := collectIn(t, ModeEBPF, nil)
	seen(t, c, p.cmd.Process.Pid)
	p.rounds(n)
}

// Programs that become one another under one process id, faster than the agent can follow, and with different code at
// the same places.
func TestExecStorm(t *testing.T) {
	dir := t.TempDir()
	builds := []string{
		buildIn(t, "chain", filepath.Join(dir, "chain-plain"), []string{"CGO_ENABLED=0"}),
		buildIn(t, "chain", filepath.Join(dir, "chain-pie"), []string{"CGO_ENABLED=0"}, "-buildmode=pie"),
	}
	if _, err := exec.LookPath("gcc"); err == nil {
		builds = append(builds, buildIn(t, "chain", filepath.Join(dir, "chain-cgo"), []string{"CGO_ENABLED=1"}))
	}
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.Include = regexp.MustCompile("^(chain-|pscope-test-target$)") })
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			out, err := exec.Command(builds[i%len(builds)], append([]string{"150", strconv.Itoa(i * 10_000)},
				builds...)...).CombinedOutput()
			if err != nil || string(out) != "done\n" {
				t.Errorf("chain %d: %v: %.2000s", i, err, out)
			}
		})
	}
	wg.Wait()
	if n := c.(*collect).orphans.Load(); n > 0 {
		t.Errorf("%d events found no target", n)
	}
	seen(t, c, start(t).cmd.Process.Pid) // it works on
}

// Programs that end while the agent looks at them for the first time.
func TestEndInMidRead(t *testing.T) {
	bin := buildIn(t, "chain", filepath.Join(t.TempDir(), "chain-short"), []string{"CGO_ENABLED=0"})
	c, rec := collectIn(t, ModeEBPF, func(o *Options) { o.Include = regexp.MustCompile("^chain-") })
	for range 25 {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				if out, err := exec.Command(bin, "0", strconv.Itoa(i*15_000), bin).CombinedOutput(); err != nil {
					t.Errorf("%v: %.2000s", err, out)
				}
			})
		}
		wg.Wait()
	}
	waitFor(t, "all of them are gone", func() bool { return len(c.Targets()) == 0 })
	rec.mu.Lock()
	defer rec.mu.Unlock()
	t.Logf("%d of 100 were observed", len(rec.ended))
}

// spinning demands that one spinning goroutine is seen as one busy P, and that a collection is seen as two stops.
func spinning(t *testing.T, c Collector, rec *record, p *child, pid int) {
	t.Helper()
	seen(t, c, pid)
	time.Sleep(100 * time.Millisecond)
	p.say("gc 5")
	p.say("busy 1")
	time.Sleep(300 * time.Millisecond)
	v := view(c, pid)
	if v == nil || v.Source != pstate.SourceEBPF || v.Reason != "" {
		t.Fatalf("observed as %+v", v)
	}
	var busy float64
	for _, s := range shares(t, c, pid, time.Second) {
		busy += s[pstate.Running] + s[pstate.Syscall] + s[pstate.GC]
	}
	if busy < 0.95 || busy > 2 {
		t.Errorf("one goroutine spins: %.3f Ps are busy", busy)
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	marks := 0
	for _, s := range rec.stops {
		if s.Reason == "GC mark termination" {
			marks++
		}
	}
	if marks != 5 {
		t.Errorf("%d of 5 collections were seen", marks)
	}
}

// A container as the agent on the host sees it: another PID namespace, and a file system on which only the container
// finds its program.
func TestOtherNamespaces(t *testing.T) {
	bin, err := targetBinary()
	if err != nil {
		t.Fatal(err)
	}
	needs(t, unix.CAP_SYS_ADMIN, "making namespaces")
	c, rec := collectIn(t, ModeEBPF, nil)
	dir := t.TempDir()
	script := fmt.Sprintf("mount -t tmpfs none %[1]s && cp %[2]s %[1]s/pscope-test-target && mount -t proc none /proc "+
		"&& exec %[1]s/pscope-test-target", dir, bin)
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Unshareflags: syscall.CLONE_NEWNS}
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	p, in := piped(t, cmd)
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if !p.out.Scan() {
		t.Fatal("it does not start")
	}
	if _, err := os.Stat(filepath.Join(dir, "pscope-test-target")); err == nil {
		t.Fatal("the program's file is visible here: the test shows nothing")
	}
	spinning(t, c, rec, p, cmd.Process.Pid)
}

// A server that gives up its privileges after it has started: the kernel then protects it from its own user.
func TestSetuid(t *testing.T) {
	needs(t, unix.CAP_SETUID, "becoming another user")
	c, rec := collectIn(t, ModeEBPF, nil)
	p := start(t, "GOMAXPROCS=2")
	seen(t, c, p.cmd.Process.Pid)
	if answer := p.say("setuid 65534"); answer != "ok setuid" {
		t.Fatal(answer)
	}
	spinning(t, c, rec, p, p.cmd.Process.Pid)
	// One that the agent finds like that.
	c2, rec2 := collectIn(t, ModeEBPF, nil)
	p.say("idle")
	spinning(t, c2, rec2, p, p.cmd.Process.Pid)
}

// A process is given the number of one that has just ended, before the agent can have noticed. What the second does
// must not be the first's.
func TestPIDReuseNeverMixes(t *testing.T) {
	const last = "/proc/sys/kernel/ns_last_pid"
	if _, err := os.Stat(last); err != nil {
		t.Skip("this kernel does not let the next process id be chosen: ", err)
	}
	needs(t, unix.CAP_SYS_ADMIN, "choosing the next process id")
	c, rec := collectIn(t, ModeEBPF, nil)
	reused := 0
	for range 8 {
		a := start(t, "GOMAXPROCS=2")
		pid := a.cmd.Process.Pid
		seen(t, c, pid)
		first := view(c, pid).Key
		time.Sleep(50 * time.Millisecond)
		// No output of the second before the first is gone.
		if err := a.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = a.cmd.Wait()
		ended := time.Now()
		if err := os.WriteFile(last, []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Fatal(err)
		}
		b := start(t, "GOMAXPROCS=2")
		b.say("busy 2")
		if b.cmd.Process.Pid != pid {
			_ = b.cmd.Process.Kill()
			continue // another process was faster
		}
		reused++
		var second *pstate.TargetView
		waitFor(t, "the second process is observed as such", func() bool {
			second = view(c, pid)
			return second != nil && second.Key != first
		})
		time.Sleep(100 * time.Millisecond)
		_ = b.cmd.Process.Kill()
		rec.mu.Lock()
		if at := rec.ended[first]; at == 0 {
			t.Error("the end of the first process was not told")
		}
		var busy time.Duration
		for _, iv := range rec.intervals[first] {
			if iv.End > ended.UnixNano() && iv.State == pstate.Running {
				busy += time.Duration(iv.End - max(iv.Start, ended.UnixNano()))
			}
		}
		rec.mu.Unlock()
		if busy > 0 {
			t.Errorf("the first process is said to have run for %v after it had ended", busy)
		}
	}
	if reused == 0 {
		t.Skip("no process id was reused in 8 attempts: other programs start processes all the time")
	}
	t.Logf("%d process ids were reused", reused)
}

// What a go command does that is asked for another toolchain: it becomes another program of the same name, of another
// Go.
func TestToolchainSwitch(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command many times")
	}
	dir := t.TempDir() // outside this module, which asks for a toolchain of its own
	env := append(os.Environ(), "GOTOOLCHAIN=go1.25.14")
	version := exec.Command("go", "version")
	version.Dir, version.Env = dir, env
	if out, err := version.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("go1.25.14")) {
		t.Skipf("no other toolchain: %s", out)
	}
	collectIn(t, ModeEBPF, func(o *Options) { o.Include = regexp.MustCompile("^go$") })
	for range 25 {
		cmd := exec.Command("go", "list", "std")
		cmd.Dir, cmd.Env = dir, env
		cmd.Stdout = io.Discard
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%.3000s", err, complaint.String())
		}
	}
}
