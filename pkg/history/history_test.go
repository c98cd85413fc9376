//go:build linux

package history

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/metrics"
)

const states = `count_over_time(go_runtime_gomaxprocs{process="server-0"}[1m])`

func TestKeepsAndAnswers(t *testing.T) {
	k := keep(t, nil)
	at := time.Now().Truncate(time.Second).Add(-time.Minute)
	for i := range 30 {
		k.put(at.Add(time.Duration(i) * time.Second))
	}
	k.settle()
	if n := k.value(at.Add(29*time.Second), states); n != 30 {
		t.Errorf("%v of 30 states are there", n)
	}
	if code, body := k.get("/api/v1/label/process/values", nil); code != http.StatusOK ||
		!strings.Contains(body, `["server-0","server-1"]`) {
		t.Errorf("label values: %d %s", code, body)
	}
	self := k.Self()
	if self["pscope_history_up"] != 1 || self["pscope_history_resident_memory_bytes"] < 1<<20 ||
		self["pscope_history_restarts_total"] != 0 {
		t.Errorf("self: %v", self)
	}
	if c := k.Conditions(); len(c) != 0 {
		t.Errorf("conditions: %+v", c)
	}
}

// However often the child is killed, nothing that was handed over is missing, and the agent goes on.
func TestKilledChildLosesNothing(t *testing.T) {
	k := keep(t, nil)
	at := time.Now().Truncate(time.Second).Add(-2 * time.Minute)
	n := 0
	put := func(states int) {
		for range states {
			k.put(at.Add(time.Duration(n) * time.Second))
			n++
		}
	}
	for range 3 {
		put(5)
		time.Sleep(50 * time.Millisecond) // some are written, some are not
		pid := k.childPID()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		put(5)
		eventually(t, "another child", func() bool { p := k.pid(); return p != 0 && p != pid })
	}
	k.settle()
	if got := k.value(at.Add(time.Duration(n-1)*time.Second), states); int(got) != n {
		t.Errorf("%v of %d states are there", got, n)
	}
	if l := k.Losses(); len(l) != 0 {
		t.Errorf("losses: %v", l)
	}
	if r := k.Self()["pscope_history_restarts_total"]; r != 3 {
		t.Errorf("%v restarts are counted, want 3", r)
	}
}

// A child that does not answer, as one whose disk hangs, holds nothing up, is named, and what waits for it stays
// bounded.
func TestStoppedChildHoldsNothingUp(t *testing.T) {
	k := keep(t, nil)
	k.put(time.Now().Add(-time.Minute))
	k.settle()
	pid := k.childPID()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	at := time.Now().Truncate(time.Second)
	begun := time.Now()
	for i := range 100 {
		k.put(at.Add(time.Duration(i) * time.Second))
	}
	if d := time.Since(begun); d > 2*time.Second {
		t.Errorf("to hand over 100 states took %v", d)
	}
	if n, dropped := k.queue.state(); n > queueSeconds || dropped < 60 {
		t.Errorf("%d states wait, %d were given up", n, dropped)
	}
	if k.Losses()["history_behind_seconds"] == 0 {
		t.Errorf("what was given up is not counted: %v", k.Losses())
	}
	eventually(t, "the condition", func() bool {
		c := k.Conditions()
		return len(c) > 0 && strings.Contains(c[0].Why, "not written anything") &&
			strings.Contains(c[0].Fix, "--data-dir")
	})
}

func TestChildEndsWithTheAgent(t *testing.T) {
	k := keep(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		k.Run(ctx, func(now time.Time) metrics.Snapshot { return metrics.Snapshot{Views: k.src.Views(now)} })
		close(done)
	}()
	time.Sleep(2500 * time.Millisecond)
	pid := k.childPID()
	cancel()
	<-done
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("the child %d lives on", pid)
	}
	again := keep(t, func(o *Options) { o.Store.Dir = k.opts.Store.Dir })
	if n := again.value(time.Now(), states); n < 1 {
		t.Errorf("%v states are in the history after a restart", n)
	}
	// The end of every series was written: nothing goes on.
	if n := again.value(time.Now().Add(time.Second), `count(pscope_p_seconds_total)`); n != 0 {
		t.Errorf("%v series go on after the end", n)
	}
}

// The disk fills up under a running agent: the history stops, says so, and goes on when there is room, through
// restarts.
func TestDiskFullAndBack(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("can't mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	k := keep(t, func(o *Options) { o.Store.Dir = filepath.Join(dir, "data") })
	at := time.Now().Truncate(time.Second).Add(-5 * time.Minute)
	next := func(n int) {
		for range n {
			k.put(at)
			at = at.Add(time.Second)
			k.settle()
		}
	}
	next(20)
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 200<<20), 0o600); err == nil {
		t.Fatal("the disk is larger than it should be")
	}
	next(10)
	full := func() bool {
		c := k.Conditions()
		return len(c) > 0 && strings.Contains(c[0].Why, "reserve") && strings.Contains(c[0].Fix, "--retention-size")
	}
	if !full() {
		t.Errorf("conditions on a full disk: %+v", k.Conditions())
	}
	lost := k.Losses()["history_disk_full"]
	if lost == 0 {
		t.Errorf("losses: %v", k.Losses())
	}
	if n := k.value(at.Add(-11*time.Second),
		`count_over_time(go_runtime_gomaxprocs{process="server-0"}[20s])`); n < 19 {
		t.Errorf("queries find %v of the 20 states before", n)
	}
	// A child that starts on a full disk waits for room and says so.
	old := k.childPID()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the condition of a new child", func() bool { p := k.pid(); return p != 0 && p != old && full() })
	if code, body := k.get("/api/v1/query", url.Values{"query": {"1"}}); code != http.StatusServiceUnavailable ||
		!strings.Contains(body, "reserve") {
		t.Errorf("while the database can't be opened: %d %s", code, body)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	next(20)
	if err := syscall.Kill(k.childPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	next(1)
	if n := k.value(at.Add(-2*time.Second),
		`count_over_time(go_runtime_gomaxprocs{process="server-0"}[20s])`); n != 20 {
		t.Errorf("%v of the 20 states after the disk had room survived a restart", n)
	}
	if got := k.Losses()["history_disk_full"]; got < lost {
		t.Errorf("losses went from %d to %d when the child was restarted", lost, got)
	}
}

// The states of a clock that was an hour ahead are put aside when it is right again; new ones are there within seconds,
// and it is named.
func TestClockThatWasAhead(t *testing.T) {
	k := keep(t, nil)
	now := time.Now().Truncate(time.Second)
	put := func(from time.Time, n int) {
		for i := range n {
			k.put(from.Add(time.Duration(i) * time.Second))
			if i%10 == 9 {
				k.settle() // the queue holds 30
			}
		}
		k.settle()
	}
	put(now.Add(-10*time.Minute), 60)
	put(now.Add(time.Hour), 60)
	put(now, 20)
	at := now.Add(19 * time.Second)
	if n := k.value(at, `count_over_time(go_runtime_gomaxprocs{process="server-0"}[20s])`); n != 20 {
		t.Errorf("%v of the 20 states after the clock was right are there", n)
	}
	if n := k.value(now.Add(-10*time.Minute+59*time.Second), states); n < 59 {
		t.Errorf("%v of the 60 states before are there", n)
	}
	if n := k.value(now.Add(time.Hour+time.Minute),
		`count_over_time(go_runtime_gomaxprocs{process="server-0"}[59m])`); n != 0 {
		t.Errorf("%v states lie in the future", n)
	}
	if c := k.Conditions(); len(c) == 0 || !strings.Contains(c[0].Why, "set back") {
		t.Errorf("conditions: %+v", c)
	}
	if self := k.Self(); self["pscope_history_clock_steps_total"] == 0 || self["pscope_history_up"] != 1 {
		t.Errorf("self: %v", self)
	}
}
