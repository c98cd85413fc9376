package collector

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/share"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// text is a log that may be read while it is written.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(b)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// TestPsWithoutRoomAreCountedAndLoggedOnce: each snapshot that leaves Ps out counts, and the log says it once for each
// number of Ps.
func TestPsWithoutRoomAreCountedAndLoggedOnce(t *testing.T) {
	log := new(text)
	c, _ := collectIn(t, ModeEBPF, func(o *Options) {
		o.MaxPs, o.Log = kernel.ChunkPs, slog.New(slog.NewTextHandler(log, nil))
	})
	p := start(t, "GOMAXPROCS=2")
	pid := p.cmd.Process.Pid
	seen(t, c, pid)
	p.say("procs 11")
	p.say("busy 11") // a target that rests is not read
	waitFor(t, "ten snapshots without room", func() bool { return view(c, pid).Lost["no_room"] >= 10 })
	if n := len(view(c, pid).Ps); n > kernel.ChunkPs {
		t.Errorf("%d Ps are observed where there is room for %d", n, kernel.ChunkPs)
	}
	told := func() int { return strings.Count(log.String(), "not every P is observed") }
	if n := told(); n != 1 {
		t.Errorf("logged %d times", n)
	}
	p.say("procs 12")
	waitFor(t, "a second line in the log", func() bool { return told() == 2 })
	time.Sleep(300 * time.Millisecond)
	if n := told(); n != 2 {
		t.Errorf("logged %d times after another change of GOMAXPROCS", n)
	}
}

// targetOf is what is said of a process.
func targetOf(c Collector, pid int) (t pstate.Target) {
	for _, t := range c.Targets() {
		if t.PID == int32(pid) {
			return t
		}
	}
	return t
}

// TestRefusedForLackOfRoomIsTriedAgain: a process that finds no room takes none from its neighbour, says why, and is
// observed when the neighbour has ended.
func TestRefusedForLackOfRoomIsTriedAgain(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.MaxPs = 2 * kernel.ChunkPs })
	big := start(t, "GOMAXPROCS=9")
	seen(t, c, big.cmd.Process.Pid)
	late := start(t, "GOMAXPROCS=8")
	pid := late.cmd.Process.Pid
	waitFor(t, "the second process is refused", func() bool { return targetOf(c, pid).Source == pstate.SourceRefused })
	if why := targetOf(c, pid).Reason; why != share.Full(share.Ps, 1).Error() {
		t.Errorf("it is refused because %q", why)
	}
	if view(c, big.cmd.Process.Pid) == nil {
		t.Error("the first is no longer observed")
	}
	_ = big.cmd.Process.Kill()
	seen(t, c, pid)
	if target := targetOf(c, pid); target.Source != pstate.SourceEBPF || target.Reason != "" {
		t.Errorf("it is observed by %q, and said is %q", target.Source, target.Reason)
	}
}

// TestMorePsThanEverFit: a process with more Ps than a target may have is refused at once, with a reason of its own,
// and takes no room.
func TestMorePsThanEverFit(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, nil)
	huge := start(t, "GOMAXPROCS=1025")
	pid := huge.cmd.Process.Pid
	waitFor(t, "it is refused", func() bool { return targetOf(c, pid).Source == pstate.SourceRefused })
	if why := targetOf(c, pid).Reason; !strings.Contains(why, "GOMAXPROCS is 1025") || !strings.Contains(why, "1024") {
		t.Errorf("it is refused because %q", why)
	}
	k := c.(*collect).kernel
	if free := len(k.Records)/kernel.ChunkPs - 1; k.Admit(0, share.Ps, free) != nil {
		t.Errorf("it took some of the %d places for Ps", free)
	}
	for range 4 {
		seen(t, c, start(t, "GOMAXPROCS=1024").cmd.Process.Pid)
	}
}

// TestLargestTables: the kernel takes the largest tables that may be asked for, and a P is observed in them.
func TestLargestTables(t *testing.T) {
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.MaxPs, o.MaxThreads = MostPs, MostThreads })
	if n := len(c.(*collect).kernel.Records); n < MostPs || n > 1<<16 {
		t.Errorf("there are %d records for %d Ps", n, MostPs)
	}
	seen(t, c, start(t, "GOMAXPROCS=2").cmd.Process.Pid)
	for cpus, want := range map[int]int{1: 4096, 64: 4096, 128: 8192, 1 << 20: MostPs} {
		if n := DefaultPs(cpus); n != want {
			t.Errorf("room for %d Ps on %d CPUs, not %d", n, cpus, want)
		}
	}
}
