package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/metrics"
)

// smallFS mounts a file system of its own, which takes the right to do so.
func smallFS(t *testing.T, size string) (dir string, resize func(size string)) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("can't mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir, func(size string) {
		t.Helper()
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size="+size); err != nil {
			t.Fatal(err)
		}
	}
}

// fillUp takes all of the room but so many bytes.
func fillUp(t *testing.T, dir string, leave int64) (release func()) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "filler")
	if err := os.WriteFile(name, make([]byte, max(0, int64(st.Bavail)*st.Bsize-leave)), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() { _ = os.Remove(name) }
}

// Before the disk is full the history stops by itself, says so, counts what is missing, answers, and goes on when there
// is room.
func TestStopsBeforeTheDiskIsFull(t *testing.T) {
	dir, _ := smallFS(t, "64m")
	s := open(t, func(o *Options) { o.Dir = dir })
	src := viewtest.New(2, 8, start)
	fill(t, s, src, start, start.Add(time.Minute))
	release := fillUp(t, dir, s.disk.reserve-1)
	snap := metrics.Snapshot{Views: src.Views(start.Add(time.Minute))}
	err := s.Append(start.Add(time.Minute), &snap)
	if !errors.Is(err, ErrNoRoom) || !strings.Contains(err.Error(), "stay in reserve") ||
		!strings.Contains(err.Error(), "--retention-size") {
		t.Fatalf("without room: %v", err)
	}
	if n := s.Losses()["history_disk_full"]; n != s.LastSamples() || n < 100 {
		t.Errorf("%d samples are counted as lost, a state has %d", n, s.LastSamples())
	}
	if c := s.Conditions(); len(c) != 1 || !strings.Contains(c[0].Why, "in reserve") || c[0].Fix == "" {
		t.Errorf("conditions: %+v", c)
	}
	if got := value(t, s, start.Add(59*time.Second), `sum(rate(pscope_p_seconds_total[30s]))`); got < 15.9 ||
		got > 16.1 {
		t.Errorf("while nothing is written, a query gives %v, want 16", got)
	}
	release()
	fill(t, s, src, start.Add(2*time.Minute), start.Add(3*time.Minute))
	for _, c := range s.Conditions() {
		if c.What == noRoom {
			t.Errorf("there is room again, and it says %+v", c)
		}
	}
	if got := value(t, s, start.Add(179*time.Second), `sum(rate(pscope_p_seconds_total[30s]))`); got < 15.9 ||
		got > 16.1 {
		t.Errorf("after it went on: %v, want 16", got)
	}
}

// A write that failed leaves a torn record. What is written after there is room again survives the next start.
func TestWhatIsWrittenAfterAFullDiskSurvivesARestart(t *testing.T) {
	dir, _ := smallFS(t, "32m")
	src := viewtest.New(8, 8, start)
	s, err := Open(Options{Dir: dir, Host: "h", MaxBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, src, start, start.Add(10*time.Second))
	s.disk.reserve = 0 // another program takes the last bytes between the check and the write
	release := fillUp(t, dir, 4096)
	at := start.Add(10 * time.Second)
	var failed error
	for range 300 {
		snap := metrics.Snapshot{Views: src.Views(at)}
		if failed = s.Append(at, &snap); failed != nil {
			break
		}
		at = at.Add(time.Second)
	}
	if failed == nil || !strings.Contains(failed.Error(), "the disk is full") {
		t.Fatalf("a full disk says: %v", failed)
	}
	if s.Losses()["history_disk_full"] == 0 {
		t.Errorf("nothing is counted: %v", s.Losses())
	}
	release()
	snap := metrics.Snapshot{Views: src.Views(at)}
	if err := s.Append(at, &snap); !errors.Is(err, ErrReopen) {
		t.Fatalf("a torn log is written on: %v", err)
	}
	_ = s.Close()

	const more = 20 // seconds
	from := at
	for round := range 2 {
		if s, err = Open(Options{Dir: dir, Host: "h", MaxBytes: -1}); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			fill(t, s, src, from, from.Add(more*time.Second))
		}
		if got := value(t, s, from.Add((more-1)*time.Second),
			`count_over_time(go_runtime_gomaxprocs{process="server-0"}[20s])`); got != more {
			t.Errorf("opened %d times since the disk was full: %v of %d samples are there", round+1, got, more)
		}
		if got := value(t, s, start.Add(9*time.Second),
			`count_over_time(go_runtime_gomaxprocs{process="server-0"}[10s])`); got < 7 {
			t.Errorf("opened %d times: %v samples from before", round+1, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// On a disk that is smaller than a block's file would be by default, blocks are written and old ones dropped.
func TestSmallDisksCompactAndForget(t *testing.T) {
	dir, _ := smallFS(t, "20m")
	s := open(t, func(o *Options) { o.Dir = dir; o.Interval = 15 * time.Second; o.MaxBytes = 2 << 30 })
	src := viewtest.New(4, 8, start)
	at := start
	for range 16 { // 8 hours
		fill(t, s, src, at, at.Add(30*time.Minute))
		at = at.Add(30 * time.Minute)
		for _, l := range []*database{s.raw, s.coarse} {
			if err := l.db.Compact(context.Background()); err != nil {
				t.Fatalf("after %v: %v", at.Sub(start), err)
			}
		}
	}
	if n := len(s.raw.db.Blocks()); n < 2 {
		t.Errorf("%d blocks are on the small disk", n)
	}
	if first, _ := s.raw.db.StartTime(); first <= start.UnixMilli() {
		t.Error("nothing old was dropped")
	}
	if n := s.Losses(); len(n) != 0 {
		t.Errorf("losses: %v", n)
	}
	free, size, _ := s.disk.free()
	t.Logf("%d of %d MiB free, %v kept", free>>20, size>>20,
		at.Sub(time.UnixMilli(func() int64 { f, _ := s.raw.db.StartTime(); return f }())))
}

func TestOpenSaysThatThereIsNoRoom(t *testing.T) {
	dir, _ := smallFS(t, "16m")
	fillUp(t, dir, 1<<20)
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrNoRoom) {
		t.Errorf("on a full disk Open gives %v", err)
	}
}
