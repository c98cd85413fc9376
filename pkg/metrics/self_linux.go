package metrics

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/internal/procfs"
)

// Self gives what the calling process uses of the machine, by metric name: seconds of CPU time, bytes, counts. What the
// system does not tell is left out. It is asked for every second, so it reads these four alone.
func Self() map[string]float64 {
	out := make(map[string]float64, 4)
	var use unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &use) == nil {
		out["process_cpu_seconds_total"] = float64(use.Utime.Nano()+use.Stime.Nano()) / 1e9
	}
	if pages, ok := residentPages(); ok {
		out["process_resident_memory_bytes"] = float64(pages * int64(os.Getpagesize()))
	}
	if n, ok := openFiles(); ok {
		out["process_open_fds"] = float64(n)
	}
	if at, ok := started(); ok {
		out["process_start_time_seconds"] = at
	}
	return out
}

// residentPages is the second number of /proc/self/statm (proc_pid_statm(5)).
func residentPages() (int64, bool) {
	fd, err := unix.Open("/proc/self/statm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	var b [128]byte
	n, err := unix.Read(fd, b[:])
	if err != nil {
		return 0, false
	}
	f := bytes.Fields(b[:n])
	if len(f) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(string(f[1]), 10, 64)
	return pages, err == nil
}

// openFiles is the size of /proc/self/fd since Linux 6.2 (fs/proc/fd.c, proc_fd_getattr); it is 0 before, and the
// entries are counted.
func openFiles() (int64, bool) {
	var st unix.Stat_t
	if unix.Stat("/proc/self/fd", &st) == nil && st.Size > 0 {
		return st.Size, true
	}
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, false
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	return int64(len(names)) - 1, err == nil // d is one of them
}

// started is when the process started, in seconds since the Unix epoch: now less its age by the clock that its start
// time is in (proc_pid_stat(5), field 22).
var started = sync.OnceValues(func() (at float64, ok bool) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, false
	}
	stat, err := procfs.ParseStat(b)
	var up unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return 0, false
	}
	age := float64(up.Nano())/1e9 - float64(stat.StartTime)/procfs.UserHz
	return float64(time.Now().UnixNano())/1e9 - age, true
})
