package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// startTime is when a process was started, in the kernel's clock ticks.
func startTime(pid int) (uint64, error) { return startTimeIn("/proc", pid) }

// startTimeIn reads field 22 of /proc/<pid>/stat.
func startTimeIn(procRoot string, pid int) (uint64, error) {
	fields, err := statFields(procRoot, pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// statFields gives the fields of /proc/<pid>/stat from the third on. The command name before them may contain anything,
// blanks and brackets included.
func statFields(procRoot string, pid int) ([]string, error) {
	b, err := os.ReadFile(procRoot + "/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat has too few fields", pid)
	}
	return f, nil
}
