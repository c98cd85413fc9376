package memory

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
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
	readers.mu.Lock()
	defer readers.mu.Unlock()
	if len(readers.hangs) > 0 {
		t.Fatal("memory of another test hangs")
	}
	readers.hangs = map[int]*hang{}
	defer func() { readers.hangs, readers.stuck = map[int]*hang{}, 0 }()
	ours, theirs := asNobody(t, 12345), asNobody(t, 23456)
	now := time.Now()
	may := func(what string, pid int, want error) {
		t.Helper()
		if err := mayRead(pid, now); want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	back := func(pid int) { // a reader has come back
		readers.hangs[pid].stuck--
		readers.stuck--
	}

	noteHang(ours, now)
	may("it hangs", ours, refusal.ErrNoAnswer)
	may("another user's", theirs, nil)
	back(ours)
	may("it has just answered", ours, refusal.ErrNoAnswer)
	now = now.Add(backOff)
	may("it was left alone", ours, nil)
	noteHang(ours, now)
	back(ours)
	now = now.Add(backOff)
	may("the second time it is left alone for longer", ours, refusal.ErrNoAnswer)
	now = now.Add(backOff)
	may("and then read again", ours, nil)

	for i := range maxStuckOfUser {
		readers.hangs[-1-i] = &hang{uid: 12345, stuck: 1, until: now}
		readers.stuck++
	}
	may("many of its user's hang", ours, refusal.ErrNoAnswer)
	may("many of another user's hang", theirs, nil)
	may("root's", os.Getpid(), nil)
	for i := range maxStuck {
		readers.hangs[-100-i] = &hang{uid: uint32(100000 + i), stuck: 1, until: now}
		readers.stuck++
	}
	may("too many hang in all: it is not this one's fault", theirs, refusal.ErrTorn)

	clear(readers.hangs)
	readers.stuck = 0
	noteHang(ours, now)
	back(ours)
	noteHang(theirs, now.Add(backOff+maxBackOff+time.Second))
	if readers.hangs[ours] != nil {
		t.Error("what hung long ago is kept for ever: pid " + strconv.Itoa(ours))
	}
}
