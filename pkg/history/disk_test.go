//go:build linux

package history

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk that becomes read-only under a history hides nothing and loses nothing: its process waits until it can write
// again, and what comes meanwhile waits, too.
func TestADiskThatIsReadOnlyForAWhile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("mounts are for root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	remount := func(writable bool) error {
		flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND)
		if !writable {
			flags |= unix.MS_RDONLY
		}
		return unix.Mount("", dir, "", flags, "")
	}
	k := keep(t, func(o *Options) { o.Store.Dir = dir })
	at := time.Now().Truncate(time.Second).Add(-time.Minute)
	n := 0
	put := func(states int) {
		for range states {
			k.put(at.Add(time.Duration(n) * time.Second))
			n++
		}
	}
	put(10)
	k.settle()
	// No file may be open to be written when a file system becomes read-only in this way: that is, between two lives of
	// the process.
	eventually(t, "a moment in which nothing is open", func() bool {
		pid := k.childPID()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return false
		}
		eventually(t, "its end", func() bool { return k.pid() != pid })
		return remount(false) == nil
	})
	put(10)
	eventually(t, "the condition", func() bool {
		c := k.Conditions()
		return len(c) > 0 && strings.Contains(c[0].Why, "read-only") && strings.Contains(c[0].Fix, "mount it")
	})
	if err := remount(true); err != nil {
		t.Fatal(err)
	}
	put(5)
	k.settle()
	if got := k.value(at.Add(time.Duration(n-1)*time.Second), states); int(got) != n {
		t.Errorf("%v of %d states are there", got, n)
	}
	if l := k.Losses(); len(l) != 0 {
		t.Errorf("losses: %v", l)
	}
	if c := k.Conditions(); len(c) != 0 {
		t.Errorf("conditions: %+v", c)
	}
}
