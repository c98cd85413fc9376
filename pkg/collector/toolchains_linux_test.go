package collector

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// How the runtime marks a P whose goroutine is in a call has changed: up to Go 1.25 the P has a status for it and no M
// in name, from 1.26 on the goroutine tells. The first and the last release line of the former, and the one running the
// tests.
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
				if strings.Contains(string(out), "toolchain not available") ||
					strings.Contains(string(out), "download go") {
					t.Skipf("%s", out)
				}
				t.Fatalf("%v\n%s", err, out)
			}
			c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.Include = regexp.MustCompile("^pscope-test-target$") })
			pid := startTold(t, bin, "y") // sleeps of 5 ms in the kernel, one after another
			seen(t, c, pid)
			time.Sleep(300 * time.Millisecond)
			a := view(c, pid)
			time.Sleep(time.Second)
			b := view(c, pid)
			wall := float64(b.At - a.At)
			var asleep, onCPU float64
			for i := range b.Ps {
				asleep += float64(
					b.Ps[i].Time[pstate.Syscall][pstate.Sleeping]-a.Ps[i].Time[pstate.Syscall][pstate.Sleeping]) / wall
				onCPU += float64(b.Ps[i].ThreadTime(pstate.OnCPU)-a.Ps[i].ThreadTime(pstate.OnCPU)) / wall
			}
			// On a busy machine the thread also waits for a CPU, and sysmon takes the P from it; but hardly ever is a P
			// on one.
			if asleep < 0.02 || asleep > 1.01 || onCPU > asleep/4 {
				t.Errorf("a goroutine sleeps in system calls: for %.2f of the time its P is in a call with its thread "+
					"asleep, and Ps are on a CPU for %.2f", asleep, onCPU)
			} else {
				t.Logf("asleep %.3f, on a CPU %.3f", asleep, onCPU)
			}
		})
	}
}

// startTold starts the target of pkg/goruntime's tests with three Ps and tells it what to do.
func startTold(t *testing.T, bin, what string) (pid int) {
	t.Helper()
	cmd := exec.Command(bin)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=3")
	p, _ := piped(t, cmd)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := p.in.WriteString(what); err != nil {
		t.Fatal(err)
	}
	if err := p.in.Flush(); err != nil {
		t.Fatal(err)
	}
	if p.out.Scan(); p.out.Text() != "ok" {
		t.Fatalf("it said %q", p.out.Text())
	}
	return cmd.Process.Pid
}
