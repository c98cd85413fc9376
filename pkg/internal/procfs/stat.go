// Package procfs reads what the kernel says of processes, threads and CPUs in /proc and /sys.
//
// It reads with few system calls, since an agent does so all the time, and never more than a bounded part of a file:
// processes choose the contents of some of them.
package procfs

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Stat is what P-Scope needs of a file /proc/<pid>/stat or /proc/<pid>/task/<tid>/stat (proc_pid_stat(5)).
type Stat struct {
	Comm      string // the name of the thread, which may be any bytes
	State     byte
	Flags     uint64        // PF_* of include/linux/sched.h
	StartTime uint64        // clock ticks since boot
	CPU       time.Duration // user and system time of all threads, in steps of 10 ms
	Size      uint64        // of the address space, in bytes
	Threads   int
}

// KernelThread says whether the process is a thread of the kernel.
func (s *Stat) KernelThread() bool { return s.Flags&kernelThread != 0 }

// UserHz is the unit of times in /proc: USER_HZ, 100 on every architecture that Go runs on.
const UserHz = 100

// clockTick is the time between two of them.
const clockTick = time.Second / UserHz

// maxTicks bounds a time that is believed, to a hundred years: a time.Duration holds 292.
const maxTicks = 100 * 366 * 24 * 3600 * UserHz

const kernelThread = 0x00200000 // PF_KTHREAD, include/linux/sched.h

var errStat = errors.New("not in the form of proc_pid_stat(5)")

// ParseStat parses one line of a stat file. The name of the thread stands in parentheses and may itself hold any
// character, so the fields are counted from the last closing one.
func ParseStat(b []byte) (Stat, error) {
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open {
		return Stat{}, errStat
	}
	s := Stat{Comm: string(b[open+1 : shut])}
	n := 0
	var user, system uint64
	for f := range bytes.FieldsSeq(b[shut+1:]) {
		ok := true
		switch n {
		case 0:
			ok, s.State = len(f) == 1, f[0]
		case 6:
			s.Flags, ok = parseUint(f)
		case 11:
			user, ok = parseUint(f)
		case 12:
			system, ok = parseUint(f)
		case 17:
			var threads uint64
			threads, ok = parseUint(f)
			s.Threads = int(threads)
		case 19:
			s.StartTime, ok = parseUint(f)
		case 20:
			s.Size, ok = parseUint(f)
		}
		if !ok {
			return Stat{}, errStat
		}
		if n++; n == 21 {
			s.CPU = time.Duration(min(user, maxTicks)+min(system, maxTicks)) * clockTick
			return s, nil
		}
	}
	return Stat{}, errStat
}

func parseUint(b []byte) (uint64, bool) {
	n, err := strconv.ParseUint(string(b), 10, 64)
	return n, err == nil
}

// ParseIdleTimes takes the times in idle and iowait of each CPU from lines like "cpu1 user nice system idle iowait …"
// of /proc/stat (proc_stat(5)).
func ParseIdleTimes(stat string) map[int]time.Duration {
	times := map[int]time.Duration{}
	for line := range strings.Lines(stat) {
		f := strings.Fields(line)
		if len(f) < 6 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		cpu, err1 := strconv.Atoi(strings.TrimPrefix(f[0], "cpu"))
		idle, err2 := strconv.ParseInt(f[4], 10, 54)
		waits, err3 := strconv.ParseInt(f[5], 10, 54)
		if err1 == nil && err2 == nil && err3 == nil {
			times[cpu] = time.Duration(idle+waits) * clockTick
		}
	}
	return times
}
