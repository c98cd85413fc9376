//go:build linux

package agent

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// timerSlack is by how much the kernel may delay the agent's timers to wake it once for several. Nothing here is in a
// hurry of less; and the runtime's monitor, which would sleep for 20 µs at a time whenever the agent does something
// (runtime/proc.go, sysmon), wakes a tenth as often. That is an eighth of what an agent beside idle targets needs. It
// must stay well below the two milliseconds within which a sample is put on its second (pkg/store, tolerance).
const timerSlack = time.Millisecond

// relaxTimers sets the slack of all threads; those that come later inherit it (prctl(2), PR_SET_TIMERSLACK). Of threads
// other than the caller's own it takes CAP_SYS_NICE (fs/proc/base.c, timerslack_ns_write). An agent without it works
// just as well and costs a little more.
func relaxTimers() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		// Every thread has such a directory of its own, though only those of processes are listed (proc(5)).
		if err := os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", strconv.AppendInt(nil, int64(timerSlack), 10),
			0); err != nil {
			return fmt.Errorf("set the timer slack of thread %s: %w", t.Name(), err)
		}
	}
	return nil
}
