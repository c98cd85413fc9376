package collector

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// suspender keeps a process from running, and lets it go on.
type suspender struct {
	suspend, resume func()
	state           pstate.ThreadState
	by              func(*pstate.TargetView) string // "" if the cause is right
}

// procStates are the letters that /proc has for the threads of a process.
func procStates(t *testing.T, pid int) map[int32]byte {
	t.Helper()
	out := make(map[int32]byte)
	for _, tid := range tidsOf(t, pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
		if err != nil {
			continue
		}
		s, err := procfs.ParseStat(b)
		if err != nil {
			t.Fatal(err)
		}
		out[int32(tid)] = s.State
	}
	return out
}

func tidsOf(t *testing.T, pid int) (out []int) {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		tid, err := strconv.Atoi(n.Name())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, tid)
	}
	return out
}

// bySignal stops a process as Ctrl-Z does.
func bySignal(t *testing.T, pid int) suspender {
	send := func(s unix.Signal) func() {
		return func() {
			if err := unix.Kill(pid, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	return suspender{send(unix.SIGSTOP), send(unix.SIGCONT), pstate.Stopped, func(v *pstate.TargetView) string {
		if v.StoppedBy.By != pstate.SuspendedBySignal {
			return fmt.Sprintf("%+v", v.StoppedBy)
		}
		return ""
	}}
}

// byTracer holds all threads of a process as a debugger does. All requests must come from one thread.
func byTracer(t *testing.T, pid int) suspender {
	requests := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range requests {
			f()
		}
	}()
	t.Cleanup(func() { close(requests) })
	do := func(f func(tid int) error) func() {
		return func() {
			failed := make(chan error)
			requests <- func() {
				var errs []error
				for _, tid := range tidsOf(t, pid) {
					errs = append(errs, f(tid))
				}
				failed <- errors.Join(errs...)
			}
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
		}
	}
	return suspender{
		do(func(tid int) error {
			if err := unix.PtraceAttach(tid); err != nil {
				return err
			}
			_, err := unix.Wait4(tid, nil, unix.WALL, nil)
			return err
		}),
		do(unix.PtraceDetach), pstate.Stopped,
		func(v *pstate.TargetView) string {
			comm, err := os.ReadFile("/proc/self/comm")
			if err != nil {
				t.Fatal(err)
			}
			if s := v.StoppedBy; s.By != pstate.SuspendedByTracer || int(s.Tracer) != os.Getpid() ||
				s.TracerName != strings.TrimSpace(string(comm)) {
				return fmt.Sprintf("%+v", s)
			}
			return ""
		},
	}
}

// byDebugger holds a process by a real debugger.
func byDebugger(t *testing.T, pid int) suspender {
	gdb, err := exec.LookPath("gdb")
	if err != nil {
		t.Skip("gdb is missing")
	}
	debugger, in := piped(t, exec.Command(gdb, "-nx", "-q", "-ex", "set pagination off", "-ex", "set confirm off"))
	t.Cleanup(func() {
		in.Close()
		_ = debugger.cmd.Wait()
	})
	say := func(command, when string) func() {
		return func() {
			t.Helper()
			for said := debugger.say("%s\nshell echo %s", command, when); !strings.HasSuffix(said,
				when); said = debugger.out.Text() {
				if !debugger.out.Scan() {
					t.Fatalf("gdb said %q and ended", said)
				}
			}
		}
	}
	return suspender{
		say(fmt.Sprintf("attach %d", pid), "attached"), say("detach", "detached"), pstate.Stopped,
		func(v *pstate.TargetView) string {
			if s := v.StoppedBy; s.By != pstate.SuspendedByTracer || int(s.Tracer) != debugger.cmd.Process.Pid ||
				s.TracerName != "gdb" {
				return fmt.Sprintf("%+v", s)
			}
			return ""
		},
	}
}

// hierarchy gives where a hierarchy of control groups is mounted, and mounts it if it is nowhere.
func hierarchy(t *testing.T, kind, options string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if f[2] == kind && (options == "" || strings.Contains(","+f[3]+",", ","+options+",")) {
			return f[1]
		}
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, kind, 0, options); err != nil {
		t.Skipf("%s %s is not mounted here and can't be: %v", kind, options, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// inGroup makes a group with a group below it and puts a process into the latter. It gives the upper one's directory
// and both paths.
func inGroup(t *testing.T, mounted string, pid int) (dir, upper string) {
	t.Helper()
	upper = fmt.Sprintf("/pscope test %d-%d", os.Getpid(), pid)
	dir = mounted + upper
	for _, d := range []string{dir, dir + "/inner"} {
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		put(t, mounted+"/cgroup.procs", strconv.Itoa(pid))
		_ = os.Remove(dir + "/inner")
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	put(t, dir+"/inner/cgroup.procs", strconv.Itoa(pid))
	return dir, upper
}

func put(t *testing.T, name, what string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(what), 0o644); err != nil {
		t.Error(err)
	}
}

func freezer(t *testing.T, mounted, upper string, freeze, thaw func()) suspender {
	return suspender{freeze, thaw, pstate.Frozen, func(v *pstate.TargetView) string {
		if v.FrozenBy.By != pstate.SuspendedByFreezer || v.FrozenBy.Cgroup != upper {
			return fmt.Sprintf("%+v", v.FrozenBy)
		}
		return ""
	}}
}

func byFreezerV1(t *testing.T, pid int) suspender {
	mounted := hierarchy(t, "cgroup", "freezer")
	dir, upper := inGroup(t, mounted, pid)
	return freezer(
		t,
		mounted,
		upper,
		func() { put(t, dir+"/freezer.state", "FROZEN") },
		func() { put(t, dir+"/freezer.state", "THAWED") },
	)
}

func byFreezerV2(t *testing.T, pid int) suspender {
	mounted := hierarchy(t, "cgroup2", "")
	dir, upper := inGroup(t, mounted, pid)
	return freezer(
		t,
		mounted,
		upper,
		func() { put(t, dir+"/cgroup.freeze", "1") },
		func() { put(t, dir+"/cgroup.freeze", "0") },
	)
}

// A process that is stopped, traced or frozen has Ps that the runtime calls running, and /proc calls its threads T, D
// or S.
func TestSuspended(t *testing.T) {
	needs(t, unix.CAP_SYS_ADMIN, "freezing a control group")
	for _, how := range []struct {
		name string
		of   func(t *testing.T, pid int) suspender
	}{{"signal", bySignal}, {"tracer", byTracer}, {"gdb", byDebugger}, {"freezer of v1", byFreezerV1},
		{"freezer of v2", byFreezerV2}} {
		t.Run(how.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, mode Mode) {
				p := start(t, "GOMAXPROCS=2")
				p.say("threads 3") // asleep where the freezer of v1 may hold them without an event
				p.say("busy 2")
				pid := p.cmd.Process.Pid
				s := how.of(t, pid)
				c, rec := collectIn(t, mode, func(o *Options) { o.CostBudget = -1 })
				seen(t, c, pid)
				time.Sleep(500 * time.Millisecond)
				s.suspend()
				resumed := false
				defer func() {
					if !resumed {
						s.resume()
					}
				}()
				defer func() {
					if v := view(c, pid); t.Failed() && v != nil {
						for i := range v.Ps {
							t.Logf("P%d: %v, its thread %d %v", i, v.Ps[i].State, v.Ps[i].TID, v.Ps[i].Thread)
						}
						t.Logf("%+v, %+v, in /proc %q", v.StoppedBy, v.FrozenBy, procStates(t, pid))
					}
				}()
				waitFor(t, "the Ps are seen to be suspended, and the cause is known", func() bool {
					v := view(c, pid)
					return v != nil && v.Ps[0].Thread == s.state && v.Ps[1].Thread == s.state && s.by(v) == ""
				})
				time.Sleep(1200 * time.Millisecond) // threads are looked at once a second
				a := view(c, pid)
				time.Sleep(2 * time.Second)
				b := view(c, pid)
				suspended(t, a, b, s)
				if mode == ModeEBPF {
					asInProc(t, b, procStates(t, pid), s.state)
				}
				s.resume()
				resumed = true
				goesOn(t, c, pid, mode)
				if mode == ModeEBPF {
					toldOf(t, rec, b, s.state)
				}
			})
		})
	}
}

// suspended tests what two views say that were taken while the process was suspended.
func suspended(t *testing.T, a, b *pstate.TargetView, s suspender) {
	t.Helper()
	if wrong := s.by(b); wrong != "" {
		t.Errorf("suspended by %s", wrong)
	}
	wall := time.Duration(b.At - a.At)
	near := func(what string, i int, got time.Duration, share float64) {
		t.Helper()
		if math.Abs(float64(got)/float64(wall)-share) > 0.001 {
			t.Errorf("P%d: %s is %.4f of the time, want %.4f", i, what, float64(got)/float64(wall), share)
		}
	}
	for i := range b.Ps {
		x, y := &a.Ps[i], &b.Ps[i]
		near(
			"running",
			i,
			y.StateTime(pstate.Running)-x.StateTime(pstate.Running)+y.StateTime(pstate.GC)-x.StateTime(pstate.GC),
			1,
		)
		near("thread "+s.state.String(), i, y.ThreadTime(s.state)-x.ThreadTime(s.state), 1)
		near("busy", i, y.BusyTime()-x.BusyTime(), 0)
		near("the D share", i, y.Uninterruptible-x.Uninterruptible, 0)
		var states, threads time.Duration
		for st := range pstate.State(pstate.NumStates) {
			states += y.StateTime(st) - x.StateTime(st)
		}
		for ts := range pstate.ThreadState(pstate.NumThreadStates) {
			threads += y.ThreadTime(ts) - x.ThreadTime(ts)
		}
		near("the sum of all states", i, states, 1)
		near("the sum of all thread states", i, threads, 1)
	}
}

// asInProc compares every thread with what /proc has of it.
func asInProc(t *testing.T, v *pstate.TargetView, proc map[int32]byte, state pstate.ThreadState) {
	t.Helper()
	known := make(map[int32]pstate.ThreadState)
	for _, th := range v.Threads {
		known[th.TID] = th.State
	}
	for tid, letter := range proc {
		want := "Tt"
		if state == pstate.Frozen {
			want = "DS"
		}
		if !strings.ContainsRune(want, rune(letter)) {
			t.Errorf("thread %d is %c in /proc, want one of %s", tid, letter, want)
		}
		if s, ok := known[tid]; !ok || s != state {
			t.Errorf("thread %d, %c in /proc, is %v (known: %v), want %v", tid, letter, s, ok, state)
		}
	}
	if len(known) != len(proc) {
		t.Errorf("%d threads are known, /proc has %d", len(known), len(proc))
	}
}

// goesOn tests that the process works again, and that no thread is taken to be suspended still.
func goesOn(t *testing.T, c Collector, pid int, mode Mode) {
	t.Helper()
	waitFor(t, "no thread is suspended any more", func() bool {
		v := view(c, pid)
		if v == nil {
			return false
		}
		for i := range v.Ps {
			if v.Ps[i].Thread.Suspended() {
				return false
			}
		}
		for _, th := range v.Threads {
			if th.State.Suspended() {
				return false
			}
		}
		return true
	})
	a := view(c, pid)
	time.Sleep(time.Second)
	b := view(c, pid)
	for i := range b.Ps {
		if share := float64(b.Ps[i].BusyTime()-a.Ps[i].BusyTime()) / float64(b.At-a.At); share < 0.9 {
			t.Errorf("P%d is busy for %.3f of the time after it went on", i, share)
		}
		if d := b.Ps[i].Uninterruptible; d > 50*time.Millisecond {
			t.Errorf("P%d was in D for %v", i, d)
		}
	}
}

// toldOf tests that the raw intervals say what the totals do.
func toldOf(t *testing.T, rec *record, v *pstate.TargetView, state pstate.ThreadState) {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	told := make([]time.Duration, len(v.Ps))
	for _, iv := range rec.intervals[v.Key] {
		if iv.Thread == state && int(iv.P) < len(told) {
			if !iv.State.Busy() {
				t.Errorf("P%d is told to be %v while its thread is %v", iv.P, iv.State, state)
			}
			told[iv.P] += iv.Duration()
		}
	}
	for i, d := range told {
		if total := v.Ps[i].ThreadTime(state); d < total-50*time.Millisecond {
			t.Errorf("P%d: intervals tell of %v in state %v, the totals of %v", i, d, state, total)
		}
	}
}
