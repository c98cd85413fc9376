//go:build linux

package agent

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestRelaxedTimersAreThoseOfAllThreads(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes CAP_SYS_NICE")
	}
	if err := relaxTimers(); err != nil {
		t.Fatal(err)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range threads {
		b, err := os.ReadFile("/proc/" + th.Name() + "/timerslack_ns")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(b)); got != strconv.Itoa(int(timerSlack)) {
			t.Errorf("thread %s has a slack of %s ns", th.Name(), got)
		}
	}
	// A timer still fires.
	begun := time.Now()
	time.Sleep(time.Millisecond)
	if d := time.Since(begun); d > time.Second {
		t.Errorf("a sleep of 1 ms took %v", d)
	}
}
