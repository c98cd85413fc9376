package collector

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// goLibrary builds a shared library that keeps a CPU busy when it is asked to.
func goLibrary(t *testing.T, name string) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is missing, without which no shared library can be built")
	}
	return withCgo(t, "library", name, "-buildmode=c-shared")
}

// withCgo builds one of goruntime's programs.
func withCgo(t *testing.T, source, name string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", append(append([]string{"build", "-buildvcs=false"}, flags...), "-o", out, ".")...)
	cmd.Dir = filepath.Join("../goruntime/testdata", source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=", "GOWORK=off")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return out
}

// busyPs is how many Ps of a runtime have been running on average.
func busyPs(c Collector, pid int, runtime string) (busy float64) {
	for _, v := range c.Views(time.Now()) {
		if int(v.PID) != pid || v.Runtime != runtime {
			continue
		}
		var running, all float64
		for i := range v.Ps {
			for s := range pstate.State(pstate.NumStates) {
				d := v.Ps[i].StateTime(s).Seconds()
				all += d
				if s == pstate.Running {
					running += d
				}
			}
		}
		busy = running / all * float64(len(v.Ps))
	}
	return busy
}

// TestTwoRuntimesInAGoProgram: a Go program that has loaded Go in a shared library is two targets. The truth is known:
// the library keeps one CPU busy, the program none.
func TestTwoRuntimesInAGoProgram(t *testing.T) {
	library := goLibrary(t, "libguest.so")
	host := withCgo(t, "gohost", "gohost")
	inBothModes(t, func(t *testing.T, mode Mode) {
		p, in := piped(t, exec.Command(host, library, "1"))
		t.Cleanup(func() {
			in.Close()
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		})
		if p.out.Scan(); p.out.Text() != "ready" {
			t.Fatalf("the program said %q", p.out.Text())
		}
		pid := p.cmd.Process.Pid
		c, _ := collectIn(t, mode, func(o *Options) { o.Only, o.Include = int32(pid), nil })
		waitFor(t, "both are observed", func() bool {
			found := runtimesIn(c, pid)
			return string(found[""].Source) == string(mode) && found["libguest.so"].Source == pstate.SourceSnapshot
		})
		guest, own := runtimesIn(c, pid)["libguest.so"], runtimesIn(c, pid)[""]
		if mode == ModeEBPF && !strings.Contains(guest.Reason, "that of its program") {
			t.Errorf("the library's runtime is observed by snapshots because %q", guest.Reason)
		}
		if guest.Labels()["runtime"] != "libguest.so" || own.Labels()["runtime"] != "" {
			t.Errorf("labels: %v and %v", guest.Labels(), own.Labels())
		}
		waitFor(t, "the library's runtime to be seen running",
			func() bool { return busyPs(c, pid, "libguest.so") > 0.5 })
		if busy := busyPs(c, pid, ""); busy > 0.2 {
			t.Errorf("%.2f Ps of the idle program are seen running", busy)
		}
	})
}

// TestAPackedProgram: a Go program that was packed with UPX is listed once, with what hides it.
func TestAPackedProgram(t *testing.T) {
	upx, err := exec.LookPath("upx-ucl")
	if err != nil {
		t.Skip("upx-ucl is missing")
	}
	bin, err := targetBinary()
	if err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(t.TempDir(), filepath.Base(bin))
	if said, err := exec.Command(upx, "-q", "-1", "-o", packed, bin).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	pid := startFile(t, packed)
	c, _ := collectIn(t, ModeEBPF, nil)
	waitFor(t, "it is listed", func() bool { return len(runtimesIn(c, pid)) > 0 })
	time.Sleep(2 * time.Second)
	found := runtimesIn(c, pid)
	if got := found[""]; len(found) != 1 || got.Source != pstate.SourceRefused || !strings.Contains(got.Reason, "UPX") {
		t.Errorf("%+v", found)
	}
}

// runPython runs lines of Python until they print "ready", and gives the pid. Each line that is written to the input
// afterwards goes to them.
func runPython(t *testing.T, script string, args ...string) (pid int, say func(string)) {
	t.Helper()
	cmd := exec.Command("python3", append([]string{"-c", script}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); errors.Is(err, exec.ErrNotFound) {
		t.Skip("python3 is missing")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	ready := func() {
		if !lines.Scan() || lines.Text() != "ready" {
			t.Fatalf("Python said %q", lines.Text())
		}
	}
	ready()
	return cmd.Process.Pid, func(line string) {
		if _, err := in.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
		ready()
	}
}

// loader loads each library that it is told the path of, and lets it keep as many CPUs busy as stands behind that.
const loader = `
import ctypes, sys
print("ready", flush=True)
for line in sys.stdin:
    path, busy = line.split()
    ctypes.CDLL(path).Work(int(busy), 1)
    print("ready", flush=True)
`

// runtimesIn lists the targets of a process by their runtime.
func runtimesIn(c Collector, pid int) map[string]pstate.Target {
	found := map[string]pstate.Target{}
	for _, target := range c.Targets() {
		if int(target.PID) == pid {
			found[target.Runtime] = target
		}
	}
	return found
}

// TestLibrariesInPython: a process that is not Go becomes a target when it loads a Go library, and has two when it
// loads another one.
func TestLibrariesInPython(t *testing.T) {
	first, second := goLibrary(t, "libfirst.so"), goLibrary(t, "libsecond.so")
	inBothModes(t, func(t *testing.T, mode Mode) {
		pid, say := runPython(t, loader)
		c, _ := collectIn(t, mode, func(o *Options) { o.Only, o.Include = int32(pid), nil })
		if found := runtimesIn(c, pid); len(found) > 0 {
			t.Fatalf("Python without a library: %+v", found)
		}
		say(first + " 0")
		waitFor(t, "the first library", func() bool { return len(runtimesIn(c, pid)) == 1 })
		if got := runtimesIn(c, pid)["libfirst.so"]; string(got.Source) != string(mode) ||
			got.Labels()["runtime"] != "libfirst.so" {
			t.Errorf("the first library: %+v", got)
		}
		say(second + " 1")
		waitFor(t, "the second library", func() bool { return len(runtimesIn(c, pid)) == 2 })
		got := runtimesIn(c, pid)["libsecond.so"]
		if got.Source != pstate.SourceSnapshot ||
			mode == ModeEBPF && !strings.Contains(got.Reason, "the one in libfirst.so") {
			t.Errorf("the second library: %+v", got)
		}
		busy := func(name string) float64 { return busyPs(c, pid, name) }
		// The truth is known: the second keeps one CPU busy, the first none.
		waitFor(t, "the second runtime to be seen running", func() bool { return busy("libsecond.so") > 0.5 })
		if share := busy("libfirst.so"); share > 0.2 {
			t.Errorf("the idle runtime is seen running for %.2f of the time", share)
		}
	})
}
