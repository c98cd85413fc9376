package collector

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// TestProgramsThatEndUnreadAreCounted: a program that has ended before the agent looks at it may have been Go. It is
// counted; one that is observed is not.
func TestProgramsThatEndUnreadAreCounted(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, nil)
	p := start(t)
	seen(t, c, p.cmd.Process.Pid)
	before := c.Agent().GlobalLost["ended_before_read"]
	const n = 30
	for range n {
		if err := exec.Command("/bin/true").Run(); err != nil {
			t.Fatal(err)
		}
	}
	// Others of this machine may end as well. Of ours, a few may have been looked at just in time.
	waitFor(t, "they are counted", func() bool { return c.Agent().GlobalLost["ended_before_read"] >= before+n*2/3 })
	if view(c, p.cmd.Process.Pid) == nil {
		t.Error("the target is not observed any more")
	}
}

// TestAReplacedLibrary: a library whose file was replaced since it was loaded is observed where the kernel leads to the
// loaded file, and else listed with what stands in the way.
func TestAReplacedLibrary(t *testing.T) {
	const checkpointRestore = 40 // CAP_CHECKPOINT_RESTORE, include/uapi/linux/capability.h
	held := lack.ReadHost("/").Held
	mayFollow := held>>unix.CAP_SYS_ADMIN&1 == 1 || held>>checkpointRestore&1 == 1
	library := goLibrary(t, "libreplaced.so")
	pid, load := runPython(t, loader)
	load(library + " 0")
	data, err := os.ReadFile(library)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(library); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(library+".new", append(data, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(library+".new", library); err != nil {
		t.Fatal(err)
	}
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.Only, o.Include = int32(pid), nil })
	waitFor(t, "it is listed", func() bool { return runtimesIn(c, pid)["libreplaced.so"].Source != "" })
	switch got := runtimesIn(c, pid)["libreplaced.so"]; {
	case mayFollow && got.Source != pstate.SourceEBPF:
		t.Errorf("%+v", got)
	case !mayFollow && (got.Source != pstate.SourceRefused || !strings.Contains(got.Reason, "was replaced or deleted")):
		t.Errorf("%+v", got)
	}
	time.Sleep(100 * time.Millisecond)
	if found := runtimesIn(c, pid); len(found) != 1 {
		t.Errorf("Python has other libraries, which were not replaced: %+v", found)
	}
}
