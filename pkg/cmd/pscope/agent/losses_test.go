//go:build linux

package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
)

// A program that makes more raw intervals than its budget: the agent says so to whoever asks, which is what `pscope
// doctor` prints.
func TestSaysWhatItHasLost(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "pscope-loss-target")
	if out, err := exec.Command("go", "build", "-o", bin,
		"../../../collector/testdata/target").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	target := exec.Command(bin)
	target.Env = append(os.Environ(), "GOMAXPROCS=8")
	in, err := target.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = target.Process.Kill(); _ = target.Wait() }()

	socket := filepath.Join(dir, "s")
	log, _ := start(t, "--socket", socket, "--listen", "", "--data-dir", filepath.Join(dir, "data"), "--mode", "ebpf",
		"--include", "^pscope-loss-target$")
	log.wait(t, "mode=ebpf")
	log.wait(t, "observing")
	agent := client.Options{Socket: socket}
	if losses, err := agent.Losses(t.Context()); err != nil {
		t.Fatal(err)
	} else if len(losses) > 0 {
		t.Errorf("nothing has happened yet, and %v is lost", losses)
	}
	fmt.Fprintln(in, "chatter 64")
	deadline := time.Now().Add(30 * time.Second)
	for {
		losses, err := agent.Losses(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range losses {
			if l.Reason == "interval_budget" && l.Process == "pscope-loss-target" &&
				l.PID == fmt.Sprint(target.Process.Pid) && l.Count > 0 {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("a program far over its budget of intervals has lost %v", losses)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
