package memory

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// userOf is the real user of a process; root's if it is not known.
func userOf(pid int) uint32 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return RealUser(b)
}

// RealUser gives the real user of a process by the contents of its /proc/<pid>/status (proc_pid_status(5)); root's, 0,
// if that does not have it. A process can choose its effective user, and whose its folder in /proc is, but not this
// one.
func RealUser(status []byte) uint32 {
	for line := range strings.Lines(string(status)) {
		if numbers, ok := strings.CutPrefix(line, "Uid:"); ok {
			if f := strings.Fields(numbers); len(f) > 0 {
				if uid, err := strconv.ParseUint(f[0], 10, 32); err == nil {
					return uint32(uid)
				}
			}
		}
	}
	return 0
}
