package process

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// TestLive reads running programs of every Go line.
func TestLive(t *testing.T) {
	fixtures.EachToolchain(t, func(t *testing.T, toolchain string) {
		for _, flags := range [][]string{nil, {"-ldflags=-s -w"}} {
			exe := fixtures.Program(t, fixtures.Build{Toolchain: toolchain, Flags: flags})
			b := inspectFile(t, exe)
			name := "symbols"
			if flags != nil {
				name = "stripped"
			}
			t.Run(name, func(t *testing.T) { testLive(t, exe, b) })
		}
	})
}

func testLive(t *testing.T, exe string, b *goruntime.Binary) {
	c := start(t, exe, nil, "GOMAXPROCS=4")
	c.do("4") // answers once main runs
	p := c.open(b)
	if p.Key().PID != int32(c.cmd.Process.Pid) || p.Key().StartTime == 0 {
		t.Errorf("key %v", p.Key())
	}

	for _, step := range []struct {
		command string
		procs   int
	}{{"1", 1}, {"4", 4}, {"x", 64}, {"2", 2}} {
		c.do(step.command)
		s := snapshot(t, p, false)
		if int(s.GOMAXPROCS) != step.procs || len(s.Ps) != step.procs {
			t.Errorf("GOMAXPROCS %d: read as %d with %d Ps", step.procs, s.GOMAXPROCS, len(s.Ps))
		}
	}

	checkThreads(t, c, p)
	checkSyscalls(t, c, p)
	checkGC(t, c, p)
	checkBusy(t, c, p)
}

// checkThreads compares the Ms with the threads that the kernel knows.
func checkThreads(t *testing.T, c *child, p *Process) {
	t.Helper()
	c.do("t") // 40 threads in system calls
	var s *Snapshot
	inSyscall := 0
	eventually(t, "40 threads in a system call", func() bool {
		s, inSyscall = snapshot(t, p, true), 0
		for _, m := range s.Ms {
			if m.GStatus == gSyscall && m.GoID != 0 {
				inSyscall++
			}
		}
		return inSyscall >= 40
	})
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(c.cmd.Process.Pid) + "/task")
	if err != nil {
		t.Fatal(err)
	}
	exists := make(map[string]bool)
	for _, task := range tasks {
		exists[task.Name()] = true
	}
	met := make(map[int32]bool)
	for _, m := range s.Ms {
		if m.TID == 0 {
			continue
		}
		if !exists[strconv.Itoa(int(m.TID))] || met[m.TID] {
			t.Errorf("thread %d does not exist, or is named twice", m.TID)
		}
		met[m.TID] = true
	}
	if len(met) < len(exists)-2 || s.Errors != 0 {
		t.Errorf("%d Ms for %d threads, %d errors", len(met), len(exists), s.Errors)
	}
}

// checkSyscalls catches a P in system calls of 5 ms, which its thread returns from before the P is taken away. All
// versions must show the state and the thread, by whatever means they record it.
func checkSyscalls(t *testing.T, c *child, p *Process) {
	t.Helper()
	c.do("4y")
	seen, withThread := 0, 0
	eventually(t, "a P in a system call", func() bool {
		s := snapshot(t, p, true)
		for _, ps := range s.Ps {
			if ps.State != pstate.Syscall {
				continue
			}
			seen++
			if ps.MIndex >= 0 {
				if m := s.Ms[ps.MIndex]; m.GStatus == gSyscall && m.TID != 0 {
					withThread++
				}
			}
		}
		return seen >= 200 // a few are between two of their own steps
	})
	if withThread < seen*9/10 {
		t.Errorf("P seen in a system call %d times, with its thread only %d times", seen, withThread)
	}
}

// checkGC catches GC mark workers, and the stops around them.
func checkGC(t *testing.T, c *child, p *Process) {
	t.Helper()
	c.do("4g")
	var seen [pstate.NumStates]int
	ticks := uint64(0)
	phases := make(map[uint32]bool)
	deadline := time.Now().Add(20 * time.Second)
	for n := 0; n < 200 || seen[pstate.GC] == 0; n++ {
		if time.Now().After(deadline) {
			t.Errorf("no GC worker seen: %v", seen)
			return
		}
		s := snapshot(t, p, false)
		phases[s.GCPhase] = true
		for _, ps := range s.Ps {
			seen[ps.State]++
			ticks += uint64(ps.SchedTick)
			if ps.State == pstate.GC && s.GCPhase == 0 && p.Binary().Vars.GCPhase != 0 &&
				(ps.MIndex < 0 || !s.Ms[ps.MIndex].GCWorker) {
				t.Error("a P that marks, of its worker's mode alone, while nothing is marked")
			}
		}
		time.Sleep(200 * time.Microsecond)
	}
	if seen[pstate.Running] == 0 || ticks == 0 || len(phases) < 2 && p.Binary().Vars.GCPhase != 0 {
		t.Errorf("states %v, ticks %d, phases %v", seen, ticks, phases)
	}
}

// checkBusy reads a program whose scheduler is busy: what was read must stay plausible.
func checkBusy(t *testing.T, c *child, p *Process) {
	t.Helper()
	c.do("b")
	const looks = 2000
	var s Snapshot
	torn, moved, failed, depth := 0, 0, 0, 0
	for range looks {
		if err := p.Snapshot(&s, true); err != nil {
			t.Fatal(err)
		}
		torn += s.Torn
		moved += s.Moved
		failed += s.Errors
		for _, ps := range s.Ps {
			if ps.OK && (ps.RunqDepth < -1 || ps.RunqDepth > 257) {
				t.Fatalf("run queue of %d", ps.RunqDepth)
			}
			depth += int(ps.RunqDepth)
		}
	}
	t.Logf("%d looks: %d torn run queues, %d Ps that changed hands, %d errors, mean depth %.2f",
		looks, torn, moved, failed, float64(depth)/float64(looks*len(s.Ps)))
	if failed > looks/100 {
		t.Errorf("%d errors in %d looks", failed, looks)
	}
}

// TestRunqDepth counts a known number of goroutines waiting on a P.
func TestRunqDepth(t *testing.T) {
	fixtures.EachToolchain(t, func(t *testing.T, toolchain string) {
		exe := fixtures.Program(t, fixtures.Build{Toolchain: toolchain})
		c := start(t, exe, nil, "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1")
		answer := c.ask("q")
		want, err := strconv.Atoi(answer)
		if err != nil {
			t.Fatal(err)
		}
		p := c.open(inspectFile(t, exe))
		for range 5 {
			s := snapshot(t, p, false)
			if len(s.Ps) != 1 || int(s.Ps[0].RunqDepth) != want || s.Ps[0].State != pstate.Running ||
				s.Ps[0].MIndex < 0 {
				t.Errorf("%d goroutines wait, read %+v", want, s.Ps)
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// TestEnds checks what is said of processes that exit or execute another program.
func TestEnds(t *testing.T) {
	exe := fixtures.Program(t, fixtures.Build{})
	b := inspectFile(t, exe)

	t.Run("exit", func(t *testing.T) {
		c := start(t, exe, nil)
		c.do("2")
		p := c.open(b)
		c.kill()
		if err := p.Snapshot(new(Snapshot), true); !errors.Is(err, refusal.ErrExited) {
			t.Errorf("Snapshot: %v", err)
		}
		if err := p.Validate(); !errors.Is(err, refusal.ErrExited) {
			t.Errorf("Validate: %v", err)
		}
		if _, err := Open(c.cmd.Process.Pid, b); !errors.Is(err, refusal.ErrExited) {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("zombie", func(t *testing.T) {
		c := start(t, exe, nil)
		c.do("2")
		p := c.open(b)
		c.cmd.Process.Kill()
		time.Sleep(100 * time.Millisecond)
		if err := p.Snapshot(new(Snapshot), true); !errors.Is(err, refusal.ErrExited) {
			t.Errorf("Snapshot: %v", err)
		}
	})
	t.Run("exec", func(t *testing.T) {
		c := start(t, exe, nil)
		c.do("2")
		p := c.open(b)
		io.WriteString(c.stdin, "e")
		time.Sleep(200 * time.Millisecond)
		if err := p.Snapshot(new(Snapshot), true); !errors.Is(err, refusal.ErrExeced) {
			t.Errorf("Snapshot: %v", err)
		}
		if err := p.Alive(); !errors.Is(err, refusal.ErrExeced) {
			t.Errorf("Alive: %v", err)
		}
		c.do("2")
		c.open(b) // the same program again: a new Process works
	})
	t.Run("executable", func(t *testing.T) {
		c := start(t, exe, nil)
		c.do("2")
		p := c.open(b)
		f, err := p.OpenExecutable()
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		other, err := os.Open(fixtures.Program(t, fixtures.Build{Flags: []string{"-buildmode=pie"}}))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if err := p.checkExecutable(other); !errors.Is(err, refusal.ErrExeced) {
			t.Errorf("another file: %v", err)
		}
		// Even one that passes for the same file must hold the same instructions.
		var st unix.Stat_t
		if err := unix.Fstat(int(other.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		p.exe = fileID{uint64(st.Dev), st.Ino}
		if err := p.checkExecutable(other); !errors.Is(err, refusal.ErrExeced) {
			t.Errorf("a file with other instructions: %v", err)
		}
	})
	t.Run("other program", func(t *testing.T) {
		c := start(t, fixtures.Program(t, fixtures.Build{Flags: []string{"-buildmode=pie"}}), nil)
		c.do("2")
		if _, err := Open(c.cmd.Process.Pid, b); !errors.Is(err, refusal.ErrExeced) {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("no such process", func(t *testing.T) {
		if _, err := Open(1<<22-1, b); !errors.Is(err, refusal.ErrExited) {
			t.Errorf("Open: %v", err)
		}
	})
}

// TestWrongLayout checks that Validate notices when the layout is not the process's.
func TestWrongLayout(t *testing.T) {
	exe := fixtures.Program(t, fixtures.Build{})
	good := inspectFile(t, exe)
	c := start(t, exe, nil, "GOMAXPROCS=4")
	c.do("4b")
	for name, break_ := range map[string]func(*goruntime.Binary){
		"P fields":    func(b *goruntime.Binary) { b.Layout.P.ID += 8; b.Layout.P.Status += 8 },
		"P run queue": func(b *goruntime.Binary) { b.Layout.P.RunqTail -= 16 },
		"M fields":    func(b *goruntime.Binary) { b.Layout.M.ProcID += 8 },
		"allp":        func(b *goruntime.Binary) { b.Vars.AllP += 8 },
		"allm":        func(b *goruntime.Binary) { b.Vars.AllM += 8 },
		"gomaxprocs":  func(b *goruntime.Binary) { b.Vars.GOMAXPROCS += 4 },
		"version":     func(b *goruntime.Binary) { b.GoVersion = "go1.21.0" },
	} {
		b := *good
		break_(&b)
		p, err := Open(c.cmd.Process.Pid, &b)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Validate(); err == nil {
			t.Errorf("%s: not noticed", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
		p.Close()
	}
}

// TestPIDNamespace checks that threads of a container are named as the host names them.
func TestPIDNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	exe := fixtures.Program(t, fixtures.Build{})
	c := start(t, exe, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID})
	c.do("t")
	p := c.open(inspectFile(t, exe))
	var s *Snapshot
	eventually(t, "40 threads", func() bool { s = snapshot(t, p, true); return len(s.Ms) > 40 })
	time.Sleep(150 * time.Millisecond) // threads too new for the last look at their ids are looked for again
	s = snapshot(t, p, true)
	differ := 0
	for _, m := range s.Ms {
		if m.ProcID == 0 {
			continue
		}
		if m.TID == 0 || !p.hasThread(m.TID) {
			t.Errorf("thread %d of the namespace is %d outside", m.ProcID, m.TID)
		}
		if m.TID != m.ProcID {
			differ++
		}
	}
	if differ < 40 {
		t.Errorf("%d of %d threads have another id outside", differ, len(s.Ms))
	}
}

// TestNoPrivilege reads a process of root as nobody.
func TestNoPrivilege(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	exe := fixtures.Program(t, fixtures.Build{})
	b := inspectFile(t, exe)
	c := start(t, exe, nil)
	c.do("2")
	done := make(chan error)
	go func() {
		// Credentials belong to the thread; it is not unlocked, so that the runtime throws it away afterwards.
		runtime.LockOSThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			done <- errno
			return
		}
		_, err := Open(c.cmd.Process.Pid, b)
		done <- err
	}()
	err := <-done
	if !errors.Is(err, refusal.ErrNoPrivilege) || !strings.Contains(err.Error(), "CAP_SYS_PTRACE") {
		t.Errorf("Open: %v", err)
	}
}

// TestThreadPointer stops threads of live programs and follows the thread pointer to G, the way the collector's BPF
// code does.
func TestThreadPointer(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("amd64 only")
	}
	builds := []fixtures.Build{{}, {Flags: []string{"-buildmode=pie"}}}
	if _, err := exec.LookPath("gcc"); err == nil {
		builds = append(builds,
			fixtures.Build{Cgo: true, Source: "cgotarget"},
			fixtures.Build{Cgo: true, Source: "cgotarget", Flags: []string{"-buildmode=pie"}},
			fixtures.Build{Cgo: true, Source: "cgotarget",
				Flags: []string{"-ldflags=-linkmode=external -extldflags=-static"}},
			fixtures.Build{Cgo: true, Source: "cgotarget", Flags: []string{"-buildmode=pie", "-ldflags=-s -w"}},
		)
	}
	for _, bd := range builds {
		t.Run(bd.String(), func(t *testing.T) {
			exe := fixtures.Program(t, bd)
			b := inspectFile(t, exe)
			c := start(t, exe, nil)
			time.Sleep(100 * time.Millisecond)
			p := c.open(b)
			s := snapshot(t, p, true)
			checked := 0
			for _, m := range s.Ms {
				if m.TID == 0 {
					continue
				}
				fs, err := fsBase(int(m.TID))
				if err != nil {
					t.Fatal(err)
				}
				var word [8]byte
				if err := p.ReadMemory(uint64(int64(fs)+b.TLSG), word[:]); err != nil {
					t.Fatalf("thread %d: %v", m.TID, err)
				}
				g := u64(word[:], 0)
				if err := p.ReadMemory(g+uint64(b.Layout.G.M), word[:]); err != nil {
					t.Fatalf("thread %d: g at %#x: %v", m.TID, g, err)
				}
				if got := u64(word[:], 0); got != m.Addr {
					t.Errorf("thread %d: m at %#x by the thread pointer, %#x by the list", m.TID, got, m.Addr)
				}
				checked++
			}
			if checked < 2 {
				t.Errorf("only %d threads checked", checked)
			}
		})
	}
}

// TestNoAllocations holds Snapshot to its promise.
func TestNoAllocations(t *testing.T) {
	exe := fixtures.Program(t, fixtures.Build{})
	c := start(t, exe, nil, "GOMAXPROCS=8")
	c.do("8t")
	p := c.open(inspectFile(t, exe))
	var s Snapshot
	for _, withMs := range []bool{false, true} {
		p.Snapshot(&s, withMs)
		if n := testing.AllocsPerRun(100, func() {
			if err := p.Snapshot(&s, withMs); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%.1f allocations with withMs=%v", n, withMs)
		}
	}
}

// TestStarting opens programs the moment they are executed: until the runtime is up they are "not started", never
// anything worse.
func TestStarting(t *testing.T) {
	builds := []fixtures.Build{{}}
	if _, err := exec.LookPath("gcc"); err == nil {
		builds = append(builds, fixtures.Build{Cgo: true, Source: "cgotarget", Flags: []string{"-buildmode=pie"}})
	}
	for _, bd := range builds {
		exe := fixtures.Program(t, bd)
		b := inspectFile(t, exe)
		waited := 0
		for range 20 {
			c := start(t, exe, nil)
			var p *Process
			eventually(t, "a process that is executed", func() bool {
				var err error
				p, err = Open(c.cmd.Process.Pid, b)
				if err != nil && !errors.Is(err, refusal.ErrNotStarted) {
					t.Fatalf("Open: %v", err)
				}
				return err == nil
			})
			eventually(t, "a process that starts", func() bool {
				err := p.Validate()
				if err != nil && !errors.Is(err, refusal.ErrNotStarted) && !errors.Is(err, refusal.ErrTorn) {
					t.Fatalf("Validate: %v", err)
				}
				if err != nil {
					waited++
				}
				return err == nil
			})
			p.Close()
			c.kill()
		}
		t.Logf("%v: not started %d times", bd, waited)
	}
}
