package collector

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// startAs starts a target as another user.
func startAs(t *testing.T, uid uint32, env ...string) *child {
	t.Helper()
	needs(t, unix.CAP_SETUID, "starting a process of another user")
	bin, err := targetBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(bin), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return startCommand(t, cmd, env...)
}

// mapper maps the files that it is told as code, as a loader of libraries does.
const mapper = `
import mmap, sys
keep = []
for path in sys.argv[1:]:
    with open(path, "rb") as f:
        keep.append(mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC))
print("ready", flush=True)
sys.stdin.read()
`

// TestManyFilesOfOneUser: a process is observed while many large files of another user's processes are being read.
func TestManyFilesOfOneUser(t *testing.T) {
	needs(t, unix.CAP_SETUID, "starting a process of another user")
	data, err := os.ReadFile(goLibrary(t, "libmany.so"))
	if err != nil {
		t.Fatal(err)
	}
	const processes, files = 6, 10
	dir := t.TempDir()
	var pids []int
	for p := range processes {
		var paths []string
		for i := range files {
			path := filepath.Join(dir, fmt.Sprintf("lib%d-%d.so", p, i))
			if err := os.WriteFile(path, data, 0o755); err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
		pid, _ := runPython(t, mapper, paths...)
		pids = append(pids, pid)
	}
	// Root's are those with many files.
	other := startAs(t, anotherUser)
	begun := time.Now()
	c, _ := collectIn(t, ModeEBPF, func(o *Options) {
		o.Include = regexp.MustCompile("^(python.*|pscope-test-target)$")
	})
	waitFor(t, "the other user's process is observed", func() bool { return view(c, other.cmd.Process.Pid) != nil })
	first := time.Since(begun)
	waitFor(t, "all files have been read", func() bool {
		n := 0
		for _, pid := range pids {
			n += len(runtimesIn(c, pid))
		}
		return n == processes*files
	})
	all := time.Since(begun)
	late := startAs(t, anotherUser)
	alone := seen(t, c, late.cmd.Process.Pid)
	t.Logf("one process is observed after %v, %d files have been read after %v; alone a process takes %v", first,
		processes*files, all, alone)
	if first > all/2 {
		t.Errorf("a process waited for %v of the %v that another user's files took", first, all)
	}
}

const oneUser, anotherUser = 54321, 54322

// refusedWith counts the processes that are refused with a reason like this.
func refusedWith(c Collector, ps []*child, reason string) (n int) {
	for _, p := range ps {
		if t := targetOf(c, p.cmd.Process.Pid); t.Source == pstate.SourceRefused && strings.Contains(t.Reason, reason) {
			n++
		}
	}
	return n
}

// TestRoomIsSharedByUser: a user whose processes have all the room gives some to another user's process, no more than
// that one needs, and gets it back when that one has ended.
func TestRoomIsSharedByUser(t *testing.T) {
	const n = 4
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.MaxPs = n * kernel.ChunkPs })
	var ps []*child
	for range n {
		p := startAs(t, oneUser, "GOMAXPROCS=8")
		seen(t, c, p.cmd.Process.Pid)
		ps = append(ps, p)
	}
	same := startAs(t, oneUser, "GOMAXPROCS=2")
	waitFor(t, "one more of the same user is refused", func() bool {
		return refusedWith(c, []*child{same}, "the table of Ps is full: it is tried again") == 1
	})
	other := startAs(t, anotherUser, "GOMAXPROCS=2")
	t.Logf("another user's process is observed after %v", seen(t, c, other.cmd.Process.Pid))
	time.Sleep(3 * time.Second) // whoever waits has asked again
	observed := 0
	for _, p := range ps {
		if view(c, p.cmd.Process.Pid) != nil {
			observed++
		}
	}
	if observed != n-1 || view(c, other.cmd.Process.Pid) == nil {
		t.Errorf("%d of %d processes of the first user are observed: %+v", observed, n, c.Targets())
	}
	if given := c.Agent().GlobalLost["room_given"]; given != 1 {
		t.Errorf("%d observations were ended for room", given)
	}
	second := startAs(t, anotherUser, "GOMAXPROCS=2")
	seen(t, c, second.cmd.Process.Pid)
	third := startAs(t, anotherUser, "GOMAXPROCS=2")
	waitFor(t, "a user who has as much as the other one gets no more", func() bool {
		return refusedWith(c, []*child{third}, "the table of Ps is full: it is tried again") == 1
	})
	for _, p := range []*child{other, second, third} {
		_ = p.cmd.Process.Kill()
	}
	waitFor(t, "the first user has all the room again", func() bool {
		return refusedWith(c, append(ps, same), "") == 1
	})
}

// TestThreadsAreSharedByUser: a process with so many threads that no room is left for those of others is let go, and
// stays away. Its reason is first that it has too many, and a moment later that there is no room for them.
func TestThreadsAreSharedByUser(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.MaxThreads = 100 })
	greedy, other := startAs(t, oneUser, "GOMAXPROCS=2"), startAs(t, anotherUser, "GOMAXPROCS=2")
	seen(t, c, greedy.cmd.Process.Pid)
	seen(t, c, other.cmd.Process.Pid)
	greedy.say("threads 95")
	waitFor(t, "the process with many threads is let go", func() bool {
		return c.Agent().GlobalLost["room_given"] == 1 &&
			refusedWith(c, []*child{greedy}, "the table of threads is ") == 1
	})
	waitFor(t, "it is not taken in again", func() bool {
		return refusedWith(c, []*child{greedy}, "the table of threads is full") == 1
	})
	if view(c, other.cmd.Process.Pid) == nil {
		t.Error("the other one is not observed any more")
	}
}

// TestExamineSaysWhenThereIsNoRoom: of two processes of which only one would have room, one is said to be refused.
func TestExamineSaysWhenThereIsNoRoom(t *testing.T) {
	first, second := start(t, "GOMAXPROCS=2"), start(t, "GOMAXPROCS=2")
	c, _ := collectIn(t, ModeEBPF, nil)
	seen(t, c, first.cmd.Process.Pid)
	seen(t, c, second.cmd.Process.Pid)
	only := regexp.MustCompile("^pscope-test-target$")
	observed, refused := 0, 0
	found, _, _, has := Examine(t.Context(), Options{MaxPs: kernel.ChunkPs, Include: only}, c.Agent())
	for _, p := range found {
		switch p.PID {
		case int32(first.cmd.Process.Pid), int32(second.cmd.Process.Pid):
			if p.Source == pstate.SourceEBPF {
				observed++
			} else if strings.Contains(p.Reason, "the table of Ps is full") {
				refused++
			}
		}
	}
	if observed > 1 || refused < 1 || has.Ps != kernel.ChunkPs || has.PsUsed != kernel.ChunkPs || has.Refused < 1 {
		t.Errorf("%d would be observed and %d refused; room %+v", observed, refused, has)
	}
	_, _, _, has = Examine(t.Context(), Options{Include: only}, c.Agent())
	if has.Refused != 0 || has.PsUsed < 2*kernel.ChunkPs || has.ThreadsUsed < 4 {
		t.Errorf("with the default room: %+v", has)
	}
}
