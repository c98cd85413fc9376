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
		if len(fields) < 2 {
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
		t.onCPU += time.Duration(on)
		t.waiting += time.Duration(wait)
	}
	t.mono = (begun + mono()) / 2
	return t, nil
}
