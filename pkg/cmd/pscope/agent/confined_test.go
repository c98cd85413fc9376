//go:build linux

package agent

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
)

// asAgent makes the test binary an agent with the arguments it gets.
const asAgent = "PSCOPE_TEST_AS_AGENT"

// output is what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// An agent that has given up what it does not need observes a program that comes later, stops included, starts a
// history that was killed again, and removes its socket.
func TestAgentThatGaveUpPrivilegesStillWorks(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "pscope-confined-target")
	if out, err := exec.Command("go", "build", "-o", bin, "../../../collector/testdata/target").
		CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	agent := exec.Command(
		exe,
		"--socket",
		socket,
		"--listen",
		"",
		"--data-dir",
		filepath.Join(dir, "data"),
		"--mode",
		"ebpf",
		"--include",
		"^pscope-confined-target$",
	)
	agent.Env = append(os.Environ(), asAgent+"=1")
	log := &output{}
	agent.Stderr = log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	t.Cleanup(func() {
		_ = agent.Process.Kill()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	c, err := (&client.Options{Socket: socket}).Dial()
	if err != nil {
		t.Fatal(err)
	}
	held := waitForMeasures(t, c, agent.Process.Pid)

	target := exec.Command(bin)
	in, err := target.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = target.Process.Kill(); _ = target.Wait() }()
	pid := int32(target.Process.Pid)
	until(t, "the program is observed by eBPF", func() bool {
		list, err := c.ListTargets(t.Context(), connect.NewRequest(&pb.ListTargetsRequest{}))
		if err != nil {
			return false
		}
		for _, x := range list.Msg.GetTargets() {
			if x.GetKey().GetPid() == pid && x.GetSource() == "ebpf" && x.GetReason() == "" {
				return true
			}
		}
		return false
	})
	until(t, "stops are seen", func() bool {
		fmt.Fprintln(in, "gc 1")
		stops, err := c.Stops(
			t.Context(),
			connect.NewRequest(
				&pb.StopsRequest{StartUnixNano: time.Now().Add(-time.Minute).UnixNano(),
					EndUnixNano: time.Now().UnixNano()},
			),
		)
		return err == nil && len(stops.Msg.GetStops()) > 0
	})

	history := children(t, agent.Process.Pid)
	if len(history) != 1 {
		t.Fatalf("the agent's children are %v", history)
	}
	if err := syscall.Kill(history[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "another history runs", func() bool {
		now := children(t, agent.Process.Pid)
		return len(now) == 1 && now[0] != history[0]
	})
	if again := waitForMeasures(t, c, agent.Process.Pid); again != held {
		t.Errorf("the second history gave up %s, the first %s", again, held)
	}

	if err := agent.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the agent does not end")
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is left")
	}
	for _, level := range []string{"level=WARN", "level=ERROR"} {
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, level) && !strings.Contains(line, "history") { // that it was killed
				t.Error(line)
			}
		}
	}
}

// waitForMeasures waits until agent and history have said what they gave up, and compares with what the kernel says.
func waitForMeasures(t *testing.T, c pscopev1connect.ScopeServiceClient, pid int) string {
	t.Helper()
	var said []*pb.Measure
	until(t, "both processes have said what they gave up", func() bool {
		list, err := c.ListTargets(t.Context(), connect.NewRequest(&pb.ListTargetsRequest{}))
		if err != nil {
			return false
		}
		said = list.Msg.GetAgent().GetGivenUp()
		return len(said) == 7
	})
	for _, m := range said {
		if !m.GetHolds() {
			t.Errorf("%s of %s does not hold: %s", m.GetName(), m.GetPart(), m.GetDetail())
		}
	}
	for _, p := range append(children(t, pid), pid) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
			if !strings.Contains(string(status), line) {
				t.Errorf("the kernel does not say %q of process %d", line, p)
			}
		}
		if none := strings.Contains(string(status), "CapPrm:\t0000000000000000\n"); none != (p != pid) {
			t.Errorf("process %d (the agent is %d) has capabilities: %v", p, pid, !none)
		}
	}
	// What is said of the bounding set depends on whether the agent had given up CAP_SETPCAP before the history began.
	var names []string
	for _, m := range said {
		names = append(names, m.GetPart()+" "+m.GetName())
	}
	return fmt.Sprint(names)
}

func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tasks {
		text, _ := os.ReadFile(file) // the thread may have ended
		for _, word := range strings.Fields(string(text)) {
			var p int
			if n, _ := fmt.Sscan(word, &p); n == 1 {
				pids = append(pids, p)
			}
		}
	}
	return pids
}

// until waits for something that takes moments on an idle machine.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within a minute: %s", what)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
