package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// threadTimes is what the kernel's own accounts say of all threads of a process (fs/proc/base.c, proc_pid_schedstat).
type threadTimes struct {
	mono           int64
	onCPU, waiting time.Duration
	bursts         int64 // how often they came onto a CPU
	// by interrupts and the hypervisor from all CPUs: schedstat leaves it out of the threads they interrupt
	taken time.Duration
}

// readThreads sums /proc/<pid>/task/*/schedstat.
func readThreads(pid int) (t threadTimes, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return t, err
	}
	begun := mono()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended
		}
		fields := strings.Fields(string(b))
		if len(fields) < 3 {
			return t, fmt.Errorf("%s has too few fields", f)
		}
		on, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return t, err
		}
		wait, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return t, err
		}
		bursts, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return t, err
		}
		t.bursts += bursts
		t.onCPU += time.Duration(on)
		t.waiting += time.Duration(wait)
	}
	t.mono = (begun + mono()) / 2
	t.taken, err = readTaken()
	return t, err
}

// readTaken sums irq, softirq and steal of /proc/stat, in steps of 10 ms.
func readTaken() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var ticks int64
	for _, f := range fields[6:9] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
