package collector

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// How the runtime marks a P whose goroutine is in a call has changed: up to Go 1.25 the P has a status for it and no M in name, from 1.26 on the goroutine
// tells. The first and the last release line of the former, and the one running the tests.
func TestBlockedCallsInEveryRuntime(t *testing.T) {
	for _, release := range []string{"1.21.13", "1.25.14", ""} {
		t.Run("go"+release, func(t *testing.T) {
			if release != "" && testing.Short() {
				t.Skip("builds with another toolchain")
			}
			bin := filepath.Join(t.TempDir(), "pscope-test-target")
			build := exec.Command("go", "build", "-buildvcs=false", "-o", bin, ".")
			build.Dir = filepath.Join("..", "goruntime", "testdata", "target")
			build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
			if release != "" {
				build.Env = append(build.Env, "GOTOOLCHAIN=go"+release)
			}
			if out, err := build.CombinedOutput(); err != nil {
				if strings.Contains(string(out), "toolchain not available") || strings.Contains(string(out), "download go") {
					t.Skipf("%s", out)
				}
				t.Fatalf("%v\n%s", err, out)
			}
			c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.Include = regexp.MustCompile("^pscope-test-target$") })
			cmd := exec.Command(bin)
			cmd.Env = append(os.Environ(), "GOMAXPROCS=3")
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
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			pid := cmd.Process.Pid
			if _, err := in.Write([]byte("y")); err != nil { // sleeps of 5 ms in the kernel, one after another
				t.Fatal(err)
			}
			if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ok\n" {
				t.Fatalf("it said %q", line)
			}
			seen(t, c, pid)
			time.Sleep(300 * time.Millisecond)
			a := view(c, pid)
			time.Sleep(time.Second)
			b := view(c, pid)
			wall := float64(b.At - a.At)
			var asleep, onCPU float64
			for i := range b.Ps {
				asleep += float64(b.Ps[i].Time[pstate.Syscall][pstate.Sleeping]-a.Ps[i].Time[pstate.Syscall][pstate.Sleeping]) / wall
				onCPU += float64(b.Ps[i].ThreadTime(pstate.OnCPU)-a.Ps[i].ThreadTime(pstate.OnCPU)) / wall
			}
			// On a busy machine the thread also waits for a CPU, and sysmon takes the P from it; but hardly ever is a P on one.
			if asleep < 0.02 || asleep > 1.01 || onCPU > asleep/4 {
				t.Errorf("a goroutine sleeps in system calls: for %.2f of the time its P is in a call with its thread asleep, and Ps are on a CPU for %.2f", asleep, onCPU)
			} else {
				t.Logf("asleep %.3f, on a CPU %.3f", asleep, onCPU)
			}
		})
	}
}
