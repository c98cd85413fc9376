//go:build linux

package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary plays the demo, and its child the slow file's server, when started with this argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "demo" {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if code, err := Run(ctx, os.Args[2:]); err != nil || code != 0 {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needFUSE(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip(err)
	}
}

func TestFlags(t *testing.T) {
	o, err := parse([]string{"--phases", "busy, d", "--d-seconds", "150", "--gomaxprocs", "8"})
	if err != nil || len(o.phases) != 2 || o.dHold != 150*time.Second || o.procs != 8 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--phases", "bussy"}, "choose from busy"},
		{[]string{"--phase-seconds", "0"}, "longer than 0"},
		{[]string{"--d-seconds", "100000"}, "at most"},
		{[]string{"--gomaxprocs", "0"}, "from 1"},
		{[]string{"busy"}, "unexpected argument"},
	} {
		if _, err := parse(tc.args); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v gives %v, want %q", tc.args, err, tc.want)
		}
	}
}

// Every phase ends soon after its time and leaves no goroutine behind.
func TestPhasesEndCleanly(t *testing.T) {
	for _, p := range allPhases() {
		if p.run == nil {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			began := time.Now()
			p.run(ctx, 2)
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("a phase of 300 ms took %v", d)
			}
			for deadline := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > before; {
				if time.Now().After(deadline) {
					t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

func TestScriptIsLogged(t *testing.T) {
	r, w := io.Pipe()
	o, err := parse([]string{"--phases", "idle,chan", "--phase-seconds", "0.1", "--once"})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		err := (&driver{o: o, out: w}).run(t.Context())
		_ = w.CloseWithError(err)
	}()
	var got []string
	for sc := bufio.NewScanner(r); sc.Scan(); {
		var e event
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			t.Fatalf("%q is no JSON: %v", sc.Text(), err)
		}
		if d := time.Since(time.Unix(0, e.Time)); d < 0 || d > time.Minute {
			t.Errorf("%q has a time %v ago", sc.Text(), d)
		}
		got = append(got, strings.TrimSpace(e.Event+" "+e.Phase))
	}
	if want := "script,begin idle,end idle,begin chan,end chan,done"; strings.Join(got, ",") != want {
		t.Errorf("the log is %v, want %s", got, want)
	}
}

// startDemo starts the demo as a process of its own and waits until a thread of it is in D.
func startDemo(t *testing.T, tmp string, hold int) (cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe", "demo", "--phases", "d", "--d-seconds", strconv.Itoa(hold), "--once")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines = bufio.NewScanner(out)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Event != "touch" {
			continue
		}
		for range 1500 { // up to 15 s: a machine may be busy
			stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "task", strconv.Itoa(e.TID),
				"stat"))
			if err == nil && strings.Contains(string(stat), ") D ") {
				return cmd, lines
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("thread %d did not get into uninterruptible sleep", e.TID)
	}
	t.Fatal("the demo ended before it touched the slow file")
	return nil, nil
}

// nothingMounted waits until no mount point is left below tmp.
func nothingMounted(t *testing.T, tmp string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		left, _ := filepath.Glob(filepath.Join(tmp, mountPattern+"*"))
		if !strings.Contains(string(mounts), " "+tmp) && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind below %s: %v", tmp, left)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestDPhaseEndsByItself(t *testing.T) {
	needFUSE(t)
	tmp := t.TempDir()
	began := time.Now()
	cmd, lines := startDemo(t, tmp, 2)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"reason"`) {
			t.Errorf("the phase did not end well: %s", lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d < 2*time.Second || d > 15*time.Second {
		t.Errorf("two seconds of D took %v", d)
	}
	nothingMounted(t, tmp)
}

// However the demo dies while a thread of it is in D, nothing of it stays.
func TestNothingStaysAfterDeathInD(t *testing.T) {
	needFUSE(t)
	t.Run("killed", func(t *testing.T) {
		tmp := t.TempDir()
		cmd, _ := startDemo(t, tmp, 600)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		nothingMounted(t, tmp)
	})
	t.Run("its server killed", func(t *testing.T) {
		tmp := t.TempDir()
		cmd, lines := startDemo(t, tmp, 3)
		killServer(t, cmd.Process.Pid)
		said := false
		for lines.Scan() {
			said = said || strings.Contains(lines.Text(), "its server has died")
		}
		if err := cmd.Wait(); err != nil || !said {
			t.Errorf("the demo must say that the server died and go on; error %v, said: %v", err, said)
		}
		nothingMounted(t, tmp)
	})
	t.Run("both killed, cleaned by the next", func(t *testing.T) {
		tmp := t.TempDir()
		cmd, _ := startDemo(t, tmp, 600)
		killServer(t, cmd.Process.Pid)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		next, lines := startDemo(t, tmp, 8)
		for lines.Scan() {
		}
		_ = next.Wait()
		nothingMounted(t, tmp)
	})
}

func killServer(t *testing.T, parent int) {
	t.Helper()
	tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(parent), "task", "*", "children"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tasks {
		list, _ := os.ReadFile(file)
		for _, pid := range strings.Fields(string(list)) {
			n, err := strconv.Atoi(pid)
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("the demo has no child")
}
