package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// FS is a mount of procfs: its path, /proc as a rule.
type FS string

// Buffer takes what is read of a file in /proc; none of those read here is longer, or is of use beyond it.
type Buffer [4096]byte

// File reads a file of a process into buf. Package os would take four more system calls for each file, to find out
// whether it can be waited for.
func (fs FS) File(buf *Buffer, pid int32, name string) ([]byte, error) {
	fd, err := unix.Open(fs.Path(pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return buf[:n], nil
}

// Path is the path of a file of a process.
func (fs FS) Path(pid int32, name string) string {
	return string(fs) + "/" + strconv.Itoa(int(pid)) + "/" + name
}

func taskFile(tid int32, name string) string { return "task/" + strconv.Itoa(int(tid)) + "/" + name }

// Stat reads the stat file of a process.
func (fs FS) Stat(pid int32) (Stat, error) { return fs.stat(pid, "stat") }

func (fs FS) stat(pid int32, name string) (Stat, error) {
	var buf Buffer
	b, err := fs.File(&buf, pid, name)
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(b)
}

// ThreadState reads the state and the name of one thread; a thread that the kernel calls R is taken to be on a CPU.
func (fs FS) ThreadState(pid, tid int32) (pstate.ThreadState, string, error) {
	s, err := fs.stat(pid, taskFile(tid, "stat"))
	if err != nil {
		return pstate.NoThread, "", err
	}
	switch s.State {
	case 'R':
		return pstate.OnCPU, s.Comm, nil
	case 'D':
		return pstate.Uninterruptible, s.Comm, nil
	case 'T', 't':
		return pstate.Stopped, s.Comm, nil
	}
	return pstate.Sleeping, s.Comm, nil
}

// Schedstat is what the kernel counts of a thread.
type Schedstat struct {
	Known          bool          // the kernel keeps such counts
	OnCPU, Waiting time.Duration // on a CPU and runnable
	Slices         uint64        // times it came onto a CPU
}

// ThreadSchedstat reads the schedstat file of a thread (Documentation/scheduler/sched-stats.rst of Linux).
func (fs FS) ThreadSchedstat(pid, tid int32) (u Schedstat) {
	var buf Buffer
	b, err := fs.File(&buf, pid, taskFile(tid, "schedstat"))
	if err != nil {
		return u
	}
	var n [3]uint64
	i := 0
	for f := range bytes.FieldsSeq(b) {
		v, ok := parseUint(f)
		if !ok || i == len(n) || v > math.MaxInt64 {
			return u
		}
		n[i] = v
		i++
	}
	return Schedstat{Known: i == len(n), OnCPU: time.Duration(n[0]), Waiting: time.Duration(n[1]), Slices: n[2]}
}

// NestedPID says whether a process has another number in a PID namespace of its own (NSpid in proc_pid_status(5)).
func (fs FS) NestedPID(pid int32) bool {
	b, err := ReadAtMost(fs.Path(pid, "status"), MaxFile)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return len(strings.Fields(numbers)) > 1
		}
	}
	return false
}

// PIDs lists the processes.
func (fs FS) PIDs() ([]int32, error) {
	d, err := os.Open(string(fs))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []int32
	for _, n := range names {
		if pid, err := strconv.ParseInt(n, 10, 32); err == nil {
			out = append(out, int32(pid))
		}
	}
	return out, nil
}

// MaxFile is how much of a file in /proc is read whose length a process decides: two arguments of the kernel's largest
// size.
const MaxFile = 256 << 10

// ReadAtMost reads a file, no more than limit bytes of it.
func ReadAtMost(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// TracerOf gives the process that traces a thread (TracerPid in proc_pid_status(5)); 0 if none does.
func (fs FS) TracerOf(pid, tid int32) (tracer int32, ok bool) {
	thread, ok := fs.StatusNumber(pid, taskFile(tid, "status"), "TracerPid:")
	if !ok || thread == 0 {
		return 0, ok
	}
	// It is the thread that traces; what people know is its process.
	if tracer, ok = fs.StatusNumber(thread, "status", "Tgid:"); !ok {
		tracer = thread
	}
	return tracer, true
}

// StatusNumber reads the number after a name, "Tgid:" for example, from a status file of a process.
func (fs FS) StatusNumber(pid int32, file, name string) (n int32, ok bool) {
	var buf Buffer
	b, err := fs.File(&buf, pid, file)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		if value, is := strings.CutPrefix(string(line), name); is {
			v, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32)
			return int32(v), err == nil
		}
	}
	return 0, false
}

// IdleTimes reads how long each CPU has been idle since the boot; nil if that can't be read.
func IdleTimes() map[int]time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil
	}
	return ParseIdleTimes(string(b))
}

// StartedAt translates the start time of a stat file.
func StartedAt(startTime uint64) time.Time {
	var up float64
	if b, err := os.ReadFile("/proc/uptime"); err != nil {
		return time.Time{}
	} else if _, err := fmt.Sscan(string(b), &up); err != nil {
		return time.Time{}
	}
	boot := time.Now().Add(-time.Duration(up * float64(time.Second)))
	return boot.Add(time.Duration(startTime) * clockTick).Truncate(clockTick)
}
