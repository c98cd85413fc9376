package collector

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// These tests stop the agent, which is a process of its own then, and look at what becomes of its target and of what it
// says afterwards.

// asAnsweringAgent makes the test binary an agent that answers with what it observes of one process; its value is the
// mode, or "windows".
const asAnsweringAgent = "PSCOPE_TEST_AS_ANSWERING_AGENT"

// agentAnswer is what it answers.
type agentAnswer struct {
	Observed  bool
	Reason    string // what is not seen of it, and why
	At        int64
	FirstSeen []int64
	Time      [][pstate.NumStates]time.Duration // by P
	State     []pstate.State
	Paused    time.Duration
	Pauses    uint64
	Stops     int
	InHole    time.Duration // what intervals there are between the two times asked about
	Threads   int
	OnCPU     time.Duration // of all threads
}

func runAnsweringAgent(mode string) {
	rec := &record{intervals: map[pstate.Key][]pstate.Interval{}, ended: map[pstate.Key]int64{}}
	o := Options{Mode: Mode(mode), Include: regexp.MustCompile("^pscope-test-(target|killed)$"), Sink: rec,
		CostBudget: -1}
	if mode == "windows" {
		o.Mode, o.Windows = ModeEBPF, 2
	}
	c, err := New(o)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() { _ = c.Run(context.Background()) }()
	answer := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var pid int32
		var from, to int64
		var a agentAnswer
		_, _ = fmt.Sscan(in.Text(), &pid, &from, &to)
		if v := view(c, int(pid)); v != nil {
			a.Observed, a.At, a.Threads = !strings.Contains(v.Reason, lack.StopsComing), v.At, len(v.Threads)
			a.Reason = v.Reason
			for _, p := range v.Ps {
				a.FirstSeen = append(a.FirstSeen, p.FirstSeen)
				a.State = append(a.State, p.State)
				var sums [pstate.NumStates]time.Duration
				for s, row := range p.Time {
					for _, d := range row {
						sums[s] += d
					}
				}
				a.Time = append(a.Time, sums)
			}
			for _, th := range v.Threads {
				a.OnCPU += th.Time[pstate.OnCPU]
			}
			for _, h := range v.StopHist {
				a.Stops += int(h.Count)
			}
			rec.mu.Lock()
			for _, iv := range rec.intervals[v.Key] {
				if d := min(iv.End, to) - max(iv.Start, from); d > 0 {
					a.InHole += time.Duration(d)
				}
			}
			rec.mu.Unlock()
			a.Paused = v.Paused
		}
		a.Pauses = c.Agent().GlobalLost["agent_paused"]
		_ = answer.Encode(a)
	}
	os.Exit(0)
}

// answeringAgent is such an agent as seen from the test.
type answeringAgent struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func startAnsweringAgent(t *testing.T, mode string) *answeringAgent {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asAnsweringAgent+"="+mode)
	cmd.Stderr = os.Stderr
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
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &answeringAgent{t, cmd, in, bufio.NewScanner(out)}
}

func (a *answeringAgent) ask(pid int, from, to int64) (v agentAnswer) {
	a.t.Helper()
	fmt.Fprintln(a.in, pid, from, to)
	if !a.out.Scan() {
		a.t.Fatal("the agent has gone")
	}
	if err := json.Unmarshal(a.out.Bytes(), &v); err != nil {
		a.t.Fatalf("the agent says %q: %v", a.out.Text(), err)
	}
	return v
}

// kernelIDs are the numbers of the BPF objects of one kind ("map", "prog", "link") that a process holds open.
func kernelIDs(t *testing.T, pid int, kind string) (ids []uint32) {
	t.Helper()
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range infos {
		text, _ := os.ReadFile(file) // a descriptor may have been closed meanwhile
		for line := range strings.Lines(string(text)) {
			var id uint32
			if n, _ := fmt.Sscanf(line, kind+"_id:\t%d", &id); n == 1 {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// needsObjectsByID skips a test that opens an agent's maps, programs or links by their ids.
func needsObjectsByID(t *testing.T) {
	t.Helper()
	needs(t, unix.CAP_SYS_ADMIN, "opening another process' BPF objects")
}

// kernelRecord is what the kernel side of an agent holds of a target, read past the agent.
type kernelRecord struct {
	events, probeNs, stops uint64
	words                  []uint64
}

func readKernelRecord(t *testing.T, agent, pid int) (r kernelRecord) {
	t.Helper()
	index := uint32(0)
	maps := map[string]*ebpf.Map{}
	for _, id := range kernelIDs(t, agent, "map") {
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		maps[info.Name] = m
	}
	var target kern.ScopeTarget
	for i := uint32(1); i < maps["targets"].MaxEntries() && index == 0; i++ {
		if err := maps["targets"].Lookup(i, &target); err != nil {
			t.Fatal(err)
		}
		if target.Tgid == uint32(pid) {
			index = i
		}
	}
	if index == 0 {
		t.Fatal("the kernel side does not have the target")
	}
	if err := maps["targets"].Lookup(index, &target); err != nil {
		t.Fatal(err)
	}
	r.events, r.probeNs, r.stops = target.Events, target.ProbeNs, target.Stops
	var p kern.ScopeP_record
	for slot := uint32(1); slot < maps["p_records"].MaxEntries(); slot++ {
		if err := maps["p_records"].Lookup(slot, &p); err != nil {
			t.Fatal(err)
		}
		if p.Target == index {
			r.words = append(r.words, p.Word)
		}
	}
	return r
}

func TestAStoppedAgentCostsNothingAndSaysSo(t *testing.T) {
	for _, mode := range []string{"ebpf", "windows", "snapshot"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			stopAgent(t, mode)
		})
	}
}

// stopAgent stops an agent for longer than the kernel side waits for it.
func stopAgent(t *testing.T, mode string) {
	if mode != "snapshot" {
		needsObjectsByID(t)
	}
	p := start(t, "GOMAXPROCS=2")
	pid := p.cmd.Process.Pid
	agent := startAnsweringAgent(t, mode)
	waitFor(t, "the agent observes", func() bool { return agent.ask(pid, 0, 0).Observed })
	p.say("busy 1")
	p.say("chatter 8")
	p.say("gc 3")
	time.Sleep(1500 * time.Millisecond)
	before := agent.ask(pid, 0, 0)

	if err := agent.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	silent := stopped.Add(kernel.AliveFor + 300*time.Millisecond)
	time.Sleep(time.Until(silent))
	if mode != "snapshot" {
		first := readKernelRecord(t, agent.cmd.Process.Pid, pid)
		if mode == "ebpf" && (first.events == 0 || first.stops < 6) {
			t.Errorf("%d events and %d stops were seen before: the test shows nothing", first.events, first.stops)
		}
		p.say("idle")
		p.say("gc 10")
		p.say("busy 2")
		time.Sleep(1500 * time.Millisecond)
		last := readKernelRecord(t, agent.cmd.Process.Pid, pid)
		if fmt.Sprint(first) != fmt.Sprint(last) {
			t.Errorf("the kernel side goes on for an agent that is stopped: %+v became %+v", first, last)
		}
	}
	p.say("idle")
	time.Sleep(500 * time.Millisecond)
	continued := time.Now()
	if err := agent.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	var after agentAnswer
	took := waitFor(t, "the agent is back", func() bool {
		after = agent.ask(pid, silent.UnixNano(), continued.UnixNano())
		return after.Observed
	})
	if took > time.Second {
		t.Errorf("it took the agent %v to be back", took)
	}
	if after.Pauses != 1 {
		t.Errorf("%d pauses are counted", after.Pauses)
	}
	if low, high := continued.Sub(silent), time.Since(stopped)-kernel.AliveFor+
		300*time.Millisecond; after.Paused < low || after.Paused > high {
		t.Errorf("the pause is said to have lasted %v, it was %v to %v", after.Paused, low, high)
	}
	if after.InHole != 0 {
		t.Errorf("intervals tell of %v of the pause", after.InHole)
	}
	var busy time.Duration
	for i, times := range after.Time {
		var sum time.Duration
		for s, d := range times {
			sum += d
			if pstate.State(s) == pstate.Running || pstate.State(s) == pstate.Syscall || pstate.State(s) == pstate.GC {
				busy += d - before.Time[i][s]
			}
		}
		if off := time.Duration(after.At-after.FirstSeen[i]) - after.Paused - sum; off < -100*time.Microsecond ||
			off > 100*time.Microsecond {
			t.Errorf("P%d: the states sum to %v, which is %v off the time less the pause", i, sum, off)
		}
	}
	// One goroutine spun until the agent was stopped and for as long as the kernel side went on.
	known := time.Duration(after.At-before.At) - after.Paused
	if mode != "snapshot" && busy < known*6/10 {
		t.Errorf("of %v that are known one goroutine spun in nearly all, %v are said to be busy", known, busy)
	}

	// What is so now is seen at once, and stops are seen again.
	stops := after.Stops
	time.Sleep(300 * time.Millisecond)
	one := agent.ask(pid, 0, 0)
	p.say("busy 2")
	time.Sleep(time.Second)
	p.say("gc 5")
	time.Sleep(500 * time.Millisecond)
	two := agent.ask(pid, silent.UnixNano(), continued.UnixNano())
	busy = 0
	for i := range two.Time {
		busy += two.Time[i][pstate.Running] +
			two.Time[i][pstate.GC] - one.Time[i][pstate.Running] - one.Time[i][pstate.GC]
	}
	if span := time.Duration(two.At - one.At); mode == "ebpf" && busy < span*12/10 {
		t.Errorf("two goroutines spin and Ps are busy for %v of 2 times %v", busy, span)
	}
	if mode != "snapshot" && two.Stops-stops < 10 || two.Stops-stops > 12 { // the runtime may collect of itself
		t.Errorf("%d stops were seen of 10 after the pause", two.Stops-stops)
	}
	if two.InHole != 0 || two.Pauses != 1 {
		t.Errorf("later, %d pauses are counted and intervals tell of %v of the pause", two.Pauses, two.InHole)
	}
	t.Logf("paused for %v; back after %v; busy for %v of %v known before", after.Paused, took, busy, known)
}

// codeAt reads a process's code.
func codeAt(t *testing.T, pid int, addr uint64) string {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	code := make([]byte, 4)
	if _, err := mem.ReadAt(code, int64(addr)); err != nil {
		t.Fatal(err)
	}
	return string(code)
}

// An agent that is killed can't clean up. The kernel does: no program, map or link is left, and the target's code is
// what it was.
func TestNothingIsLeftOfAKilledAgent(t *testing.T) {
	needsObjectsByID(t)
	// Under a name that no other agent on this machine looks for: each has a probe at the same place.
	built, err := targetBinary()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "pscope-test-killed")
	if err := os.WriteFile(own, text, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(own)
	p, in := piped(t, cmd)
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p.out.Scan()
	pid := cmd.Process.Pid
	file, err := os.Open(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	bin, err := goruntime.Inspect(file)
	if err != nil {
		t.Fatal(err)
	}
	site, ok := bin.Probe(kernel.StopProbe)
	if !ok {
		t.Fatal("the target has no place for the probe")
	}
	asBuilt := make([]byte, 4)
	if _, err := file.ReadAt(asBuilt, int64(site.FileOffset)); err != nil {
		t.Fatal(err)
	}
	untouched := codeAt(t, pid, site.Addr)
	if untouched != string(asBuilt) {
		t.Fatal("another agent on this machine, which observes every program, has a probe there: end it, or run the " +
			"packages one after the other (-p 1)")
	}
	agent := startAnsweringAgent(t, "ebpf")
	waitFor(t, "the agent observes", func() bool { return agent.ask(pid, 0, 0).Observed })
	t.Cleanup(func() {
		if t.Failed() && agent.cmd.ProcessState == nil {
			t.Logf("the agent says of its target: %q", agent.ask(pid, 0, 0).Reason)
		}
	})
	waitFor(t, "the probe is there", func() bool { return codeAt(t, pid, site.Addr) != untouched })
	maps, progs, links := kernelIDs(t, agent.cmd.Process.Pid, "map"), kernelIDs(t, agent.cmd.Process.Pid, "prog"),
		kernelIDs(t, agent.cmd.Process.Pid, "link")
	if len(maps) < 5 || len(progs) < 5 || len(links) < 4 {
		t.Fatalf("the agent holds maps %v, programs %v, links %v: the test shows nothing", maps, progs, links)
	}
	if err := agent.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.cmd.Wait()
	gone := func(o io.Closer, err error) bool {
		if err == nil {
			o.Close()
		}
		return errors.Is(err, os.ErrNotExist)
	}
	left := func() (what []string) {
		if codeAt(t, pid, site.Addr) != untouched {
			what = append(what, "the probe")
		}
		for _, id := range maps {
			if m, err := ebpf.NewMapFromID(ebpf.MapID(id)); !gone(m, err) {
				what = append(what, fmt.Sprintf("map %v %v", m, err))
			}
		}
		for _, id := range progs {
			if p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id)); !gone(p, err) {
				what = append(what, fmt.Sprintf("program %v %v", p, err))
			}
		}
		for _, id := range links {
			if l, err := link.NewFromID(link.ID(id)); !gone(l, err) {
				what = append(what, fmt.Sprintf("link %v %v", id, err))
			}
		}
		return what
	}
	killed := time.Now()
	for len(left()) > 0 {
		// the kernel waits for a grace period or two, and on a busy machine those are long
		if time.Since(killed) > time.Minute {
			t.Fatalf("left of the agent: %v", left())
		}
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(killed)
	p.say("gc 3")
	t.Logf("%d maps, %d programs and %d links were gone after %v", len(maps), len(progs), len(links), took)
}
