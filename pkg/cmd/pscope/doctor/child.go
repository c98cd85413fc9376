//go:build linux

package doctor

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The child is a small Go program on which doctor tries what an agent would do. It does as it is told on its standard
// input, a line at a time, and answers each with a line of JSON. It ends when its input does, so that it never outlives
// a doctor, however that ends.

// ChildCommand is the hidden subcommand that runs it.
const ChildCommand = "doctor-child"

// Account is what the child says of itself after it has worked.
type Account struct {
	Stops    uint64        `json:"stops"`    // of the world, by the runtime's own count
	CPU      time.Duration `json:"cpu_ns"`   // CPU time of all its threads, by the kernel
	Switches int64         `json:"switches"` // how often its threads left a CPU, by the kernel
	Error    string        `json:"error,omitempty"`
}

// How much the child works.
const (
	childPs       = 2
	childStops    = 12                     // a call of runtime.ReadMemStats stops the world once
	childGCs      = 2                      // a collection stops it twice
	childBlocks   = 20                     // sleeps of two goroutines that then wake each other
	childBusy     = 200 * time.Millisecond // on a CPU
	childLifetime = 2 * time.Minute        // at most, whatever its parent does
)

// RunChild is the subcommand.
func RunChild(_ context.Context, _ []string) (int, error) {
	time.AfterFunc(childLifetime, func() { os.Exit(3) })
	debug.SetGCPercent(-1) // a stop comes when the child wants one
	runtime.GOMAXPROCS(childPs)
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	if err := out.Encode(Account{}); err != nil {
		return 1, err
	}
	for lines.Scan() {
		var a Account
		var n int
		var ms int64
		switch line := lines.Text(); {
		case line == "work":
			a = work()
		case scan(line, "spin %d %d", &n, &ms):
			a = spinOn(n, time.Duration(ms)*time.Millisecond)
		default:
			a.Error = "not understood: " + line
		}
		if err := out.Encode(a); err != nil {
			return 1, err
		}
	}
	return 0, nil
}

func scan(line, format string, to ...any) bool {
	n, err := fmt.Sscanf(line, format, to...)
	return err == nil && n == len(to)
}

// account reads what the runtime and the kernel count of this process so far.
func account() Account {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // can't fail with a valid argument
	a := Account{CPU: time.Duration(u.Utime.Nano() + u.Stime.Nano()), Switches: u.Nvcsw + u.Nivcsw}
	// The runtime counts each stop by how long it was (runtime/metrics), and does not stop for being asked.
	for _, name := range []string{"/sched/pauses/total/gc:seconds", "/sched/pauses/total/other:seconds"} {
		s := []metrics.Sample{{Name: name}}
		metrics.Read(s)
		if s[0].Value.Kind() != metrics.KindFloat64Histogram {
			continue
		}
		for _, n := range s[0].Value.Float64Histogram().Counts {
			a.Stops += n
		}
	}
	return a
}

// work blocks, stops the world and uses a CPU, and says how much of each.
func work() Account {
	before := account()
	ping, pong := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for range childBlocks {
			<-ping
			time.Sleep(2 * time.Millisecond)
			pong <- struct{}{}
		}
	})
	for range childBlocks {
		time.Sleep(2 * time.Millisecond)
		ping <- struct{}{}
		<-pong
	}
	wg.Wait()
	for range childStops {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		time.Sleep(5 * time.Millisecond)
	}
	for range childGCs {
		runtime.GC()
	}
	for range childPs {
		wg.Go(func() { spin(childBusy / childPs) })
	}
	wg.Wait()
	a := account()
	a.Stops -= before.Stops
	a.CPU -= before.CPU
	a.Switches -= before.Switches
	return a
}

// spinOn uses one CPU for a while.
func spinOn(cpu int, d time.Duration) (a Account) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return Account{Error: err.Error()}
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return Account{Error: err.Error()}
	}
	spin(d)
	if err := unix.SchedSetaffinity(0, &all); err != nil {
		a.Error = err.Error()
	}
	return a
}

// spin uses this much CPU time of its thread, or gives up after a second: on a starved machine it may not get that
// much.
func spin(d time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begun, used := time.Now(), threadCPU()
	x := 1.0
	for threadCPU()-used < d && time.Since(begun) < time.Second {
		for range 1000 {
			x = math.Sqrt(x + 1)
		}
	}
	runtime.KeepAlive(x)
}

func threadCPU() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // can't fail with a valid clock id
	return time.Duration(ts.Nano())
}

// child is the parent's end of it.
type child struct {
	cmd     *exec.Cmd
	stdin   interface{ Close() error }
	write   func(string) error
	answers chan Account
}

// startChild starts it and waits until it is there.
func startChild(ctx context.Context) (*child, error) {
	// The very program that runs, also if its file has been replaced meanwhile.
	cmd := exec.Command("/proc/self/exe", ChildCommand)
	cmd.Args[0] = "pscope"
	cmd.Env = append(os.Environ(), "GOGC=off")
	cmd.Stderr = os.Stderr
	// Its own group: an interrupt from the terminal is for doctor, which then ends the child.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startUnprivileged(cmd); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, stdin: in, answers: make(chan Account, 1)}
	c.write = func(line string) error { _, err := fmt.Fprintln(in, line); return err }
	go func() {
		defer close(c.answers)
		for d := json.NewDecoder(out); ; {
			var a Account
			if d.Decode(&a) != nil {
				return
			}
			c.answers <- a
		}
	}()
	if _, err := c.answer(ctx); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// startUnprivileged starts a program that gets no capabilities from its file: one that has them can't be read by a
// process that has fewer, so that it would be no example of the processes of this user.
func startUnprivileged(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		// What is set here is the thread's, and its children inherit it. The thread ends with this goroutine, as it is
		// never unlocked.
		runtime.LockOSThread()
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			started <- err
			return
		}
		started <- cmd.Start()
	}()
	return <-started
}

func (c *child) pid() int32 { return int32(c.cmd.Process.Pid) }

// ask tells the child to do something and gives its account.
func (c *child) ask(ctx context.Context, format string, args ...any) (Account, error) {
	if err := c.write(fmt.Sprintf(format, args...)); err != nil {
		return Account{}, fmt.Errorf("the child process has gone: %w", err)
	}
	return c.answer(ctx)
}

func (c *child) answer(ctx context.Context) (Account, error) {
	select {
	case a, ok := <-c.answers:
		switch {
		case !ok:
			return a, fmt.Errorf("the child process has ended by itself")
		case a.Error != "":
			return a, fmt.Errorf("the child process: %s", a.Error)
		}
		return a, nil
	case <-ctx.Done():
		return Account{}, fmt.Errorf("the child process does not answer in time")
	}
}

// end kills it and waits until it is gone.
func (c *child) end() {
	_ = c.stdin.Close()
	_ = c.cmd.Process.Kill()
	for range c.answers { //nolint:revive // until its output is closed
	}
	_ = c.cmd.Wait()
}
