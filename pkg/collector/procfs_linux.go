package collector

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// procStat is what P-Scope needs of /proc/<pid>/stat (proc_pid_stat(5)).
type procStat struct {
	comm      string // as the thread chose it: any bytes
	state     byte
	flags     uint64
	startTime uint64        // clock ticks since boot
	cpu       time.Duration // user and system time of all threads, in steps of 10 ms
	size      uint64        // of its address space, in bytes
	threads   int
}

// userHz is the unit of times in /proc: USER_HZ, 100 on every architecture that Go runs on.
const userHz = 100

// mostTicks bounds a time that is believed, to a hundred years: a time.Duration holds 292.
const mostTicks = 100 * 366 * 24 * 3600 * userHz

const kernelThread = 0x00200000 // PF_KTHREAD, include/linux/sched.h

var errStat = errors.New("not in the form of proc_pid_stat(5)")

// parseStat parses one line of a stat file. The command stands in parentheses and may itself hold any character, so the fields are
// counted from the last closing one.
func parseStat(b []byte) (procStat, error) {
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open {
		return procStat{}, errStat
	}
	s := procStat{comm: string(b[open+1 : shut])}
	n := 0
	var user, system uint64
	for f := range bytes.FieldsSeq(b[shut+1:]) {
		ok := true
		switch n {
		case 0:
			ok, s.state = len(f) == 1, f[0]
		case 6:
			s.flags, ok = parseUint(f)
		case 11:
			user, ok = parseUint(f)
		case 12:
			system, ok = parseUint(f)
		case 17:
			var threads uint64
			threads, ok = parseUint(f)
			s.threads = int(threads)
		case 19:
			s.startTime, ok = parseUint(f)
		case 20:
			s.size, ok = parseUint(f)
		}
		if !ok {
			return procStat{}, errStat
		}
		if n++; n == 21 {
			s.cpu = time.Duration(min(user, mostTicks)+min(system, mostTicks)) * (time.Second / userHz)
			return s, nil
		}
	}
	return procStat{}, errStat
}

func parseUint(b []byte) (uint64, bool) {
	n, err := strconv.ParseUint(string(b), 10, 64)
	return n, err == nil
}

// mostOfProc bounds what is read of a file in /proc; none of those read here is longer, or is of use beyond it.
const mostOfProc = 4096

// procFile reads a file of a process. It is what most of the agent's system calls would otherwise be for: package os asks of each file, in four more
// calls, whether it can be waited for.
func (o *Options) procFile(buf *[mostOfProc]byte, pid int32, name string) ([]byte, error) {
	fd, err := unix.Open(o.procPath(pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
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

// procPath is the path of a file of a process.
func (o *Options) procPath(pid int32, name string) string {
	return o.ProcRoot + "/" + strconv.Itoa(int(pid)) + "/" + name
}

func (o *Options) readStat(pid int32) (procStat, error) {
	var buf [mostOfProc]byte
	b, err := o.procFile(&buf, pid, "stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(b)
}

// threadState reads the state of one thread; a thread that the kernel calls R is taken to be on a CPU.
func (o *Options) threadState(pid, tid int32) (pstate.ThreadState, string, error) {
	var buf [mostOfProc]byte
	b, err := o.procFile(&buf, pid, "task/"+strconv.Itoa(int(tid))+"/stat")
	if err != nil {
		return pstate.NoThread, "", err
	}
	s, err := parseStat(b)
	if err != nil {
		return pstate.NoThread, "", err
	}
	switch s.state {
	case 'R':
		return pstate.OnCPU, s.comm, nil
	case 'D':
		return pstate.Uninterruptible, s.comm, nil
	case 'T', 't':
		return pstate.Stopped, s.comm, nil
	}
	return pstate.Sleeping, s.comm, nil
}

// threadUse is what the kernel counts of a thread.
type threadUse struct {
	known       bool
	on, waiting time.Duration // on a CPU and runnable
	slices      uint64        // times it came onto a CPU
}

// threadUse reads a thread's schedstat (Documentation/scheduler/sched-stats.rst of Linux). It isn't known where the kernel keeps no such counts.
func (o *Options) threadUse(pid, tid int32) (u threadUse) {
	var buf [mostOfProc]byte
	b, err := o.procFile(&buf, pid, "task/"+strconv.Itoa(int(tid))+"/schedstat")
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
	return threadUse{known: i == len(n), on: time.Duration(n[0]), waiting: time.Duration(n[1]), slices: n[2]}
}

// nestedPID says whether a process has another number in a PID namespace of its own (NSpid in proc_pid_status(5)).
func (o *Options) nestedPID(pid int32) bool {
	b, err := readAtMost(o.procPath(pid, "status"), maxProcFile)
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

// pids lists the processes of the host.
func (o *Options) pids() ([]int32, error) {
	d, err := os.Open(o.ProcRoot)
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

// named is a process with the names that it is asked for by, cleaned. Nothing else is read of most processes of a host.
func (o *Options) named(pid int32, stat procStat) pstate.Target {
	t := pstate.Target{Key: pstate.Key{PID: pid, StartTime: stat.startTime}}
	process := stat.comm
	if exe, err := os.Readlink(o.procPath(pid, "exe")); err == nil {
		exe = strings.TrimSuffix(exe, " (deleted)")
		t.Exe = cleantext.Name(exe, cleantext.MaxPath)
		process = filepath.Base(exe)
	}
	t.Process = cleantext.Name(process, cleantext.MaxName)
	return t
}

// maxProcFile is how much of a file in /proc is read whose length a process decides: two arguments of the kernel's
// largest size.
const maxProcFile = 256 << 10

// readAtMost reads a file, no more than most bytes of it.
func readAtMost(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// describe fills what else /proc says of a process.
func (o *Options) describe(t *pstate.Target) {
	if b, err := readAtMost(o.procPath(t.PID, "cmdline"), maxProcFile); err == nil {
		if !o.ShowArguments {
			b, _, _ = bytes.Cut(b, []byte{0})
		}
		t.Cmdline = cleantext.Text(strings.TrimSpace(string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))), cleantext.MaxCmdline)
	}
	if b, err := readAtMost(o.procPath(t.PID, "cgroup"), maxProcFile); err == nil {
		t.Cgroup, t.Container, t.Pod = parseCgroup(string(b))
	}
	t.Started = startedAt(t.StartTime)
}

// clockTick is USER_HZ, the unit of a start time; it is 100 on every architecture Go runs on.
const clockTick = 10 * time.Millisecond

func startedAt(startTime uint64) time.Time {
	var up float64
	if b, err := os.ReadFile("/proc/uptime"); err != nil {
		return time.Time{}
	} else if _, err := fmt.Sscan(string(b), &up); err != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(up * float64(time.Second))).Add(time.Duration(startTime) * clockTick).Truncate(clockTick)
}
