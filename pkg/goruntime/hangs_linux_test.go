package goruntime

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// asNobody starts a process of another user.
func asNobody(t *testing.T, uid uint32) int {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// Processes whose memory does not answer keep nobody else's from being read: not those of other users, and those of the
// same user only while many hang. One that hung is left alone for a while, each time for longer.
func TestWhoseMemoryIsRead(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("starting processes of other users needs root")
	}
	memoryReaders.mu.Lock()
	defer memoryReaders.mu.Unlock()
	if len(memoryReaders.left) > 0 {
		t.Fatal("memory of another test hangs")
	}
	memoryReaders.left = map[int]*hang{}
	defer func() { memoryReaders.left, memoryReaders.n = map[int]*hang{}, 0 }()
	ours, theirs := asNobody(t, 12345), asNobody(t, 23456)
	now := time.Now()
	may := func(what string, pid int, want error) {
		t.Helper()
		if err := mayRead(pid, now); want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	back := func(pid int) { // a reader has come back
		memoryReaders.left[pid].left--
		memoryReaders.n--
	}

	noteHang(ours, now)
	may("it hangs", ours, ErrNoAnswer)
	may("another user's", theirs, nil)
	back(ours)
	may("it has just answered", ours, ErrNoAnswer)
	now = now.Add(aloneFor)
	may("it was left alone", ours, nil)
	noteHang(ours, now)
	back(ours)
	now = now.Add(aloneFor)
	may("the second time it is left alone for longer", ours, ErrNoAnswer)
	now = now.Add(aloneFor)
	may("and then read again", ours, nil)

	for i := range mostLeftOfUser {
		memoryReaders.left[-1-i] = &hang{uid: 12345, left: 1, until: now}
		memoryReaders.n++
	}
	may("many of its user's hang", ours, ErrNoAnswer)
	may("many of another user's hang", theirs, nil)
	may("root's", os.Getpid(), nil)
	for i := range mostLeft {
		memoryReaders.left[-100-i] = &hang{uid: uint32(100000 + i), left: 1, until: now}
		memoryReaders.n++
	}
	may("too many hang in all: it is not this one's fault", theirs, ErrTorn)

	clear(memoryReaders.left)
	memoryReaders.n = 0
	noteHang(ours, now)
	back(ours)
	noteHang(theirs, now.Add(aloneFor+aloneMost+time.Second))
	if memoryReaders.left[ours] != nil {
		t.Error("what hung long ago is kept for ever: pid " + strconv.Itoa(ours))
	}
}
