package process

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// TestLiveSearch reads running programs that say they were built with Go 1.99 and have neither symbols nor debugging
// information: those of every release, and such with a modified runtime.
func TestLiveSearch(t *testing.T) {
	run := func(t *testing.T, b fixtures.Build) {
		exe := fixtures.Program(t, b)
		exe = fixtures.Renamed(t, exe, fixtures.BuildVersion(t, exe))
		bin := inspectFile(t, exe)
		if bin.LayoutSource != pstate.LayoutSearch || !bin.Stripped || !strings.HasPrefix(bin.GoVersion, "go1.99") {
			t.Fatalf("%s: layout from %q, stripped: %v", bin.GoVersion, bin.LayoutSource, bin.Stripped)
		}
		testLive(t, exe, bin)
	}
	fixtures.EachToolchain(t, func(t *testing.T, toolchain string) {
		run(t, fixtures.Build{Toolchain: toolchain, Flags: []string{"-ldflags=-s -w"}})
	})
	for _, c := range fixtures.Modifications() {
		t.Run(fmt.Sprintf("modified-go%s-%d-%v", c.Toolchain, c.Seed, c.Shuffle), func(t *testing.T) {
			root := fixtures.ModifiedRuntime(t, c.Toolchain, c.Seed, c.Shuffle)
			run(t, fixtures.Build{Toolchain: c.Toolchain, Root: root, Flags: []string{"-ldflags=-s -w"}})
		})
	}
}

// TestLiveSearchWithSymbols is for programs that have symbols but no debugging information, as -ldflags=-w makes them.
func TestLiveSearchWithSymbols(t *testing.T) {
	exe := fixtures.Program(t, fixtures.Build{Flags: []string{"-ldflags=-w"}})
	exe = fixtures.Renamed(t, exe, fixtures.BuildVersion(t, exe))
	bin := inspectFile(t, exe)
	if bin.LayoutSource != pstate.LayoutSearch || bin.Stripped {
		t.Fatalf("layout from %q, stripped: %v", bin.LayoutSource, bin.Stripped)
	}
	testLive(t, exe, bin)
}

// TestProofRefuses moves one field after the other to where it is not, as a search that is wrong would have it: memory
// must refuse it, naming a field. The fields in which memory has nothing to show are those that are zero nearly always.
func TestProofRefuses(t *testing.T) {
	exe := fixtures.Program(t, fixtures.Build{Flags: []string{"-ldflags=-s -w"}})
	exe = fixtures.Renamed(t, exe, fixtures.BuildVersion(t, exe))
	right := inspectFile(t, exe)
	quiet, busy := start(t, exe, nil, "GOMAXPROCS=4"), start(t, exe, nil, "GOMAXPROCS=4")
	quiet.do("4t")                    // with threads in system calls
	busy.do("4b")                     // with threads that carry Ps
	time.Sleep(50 * time.Millisecond) // by now each P has had goroutines in its queue
	quiet.open(right)
	busy.open(right)
	for _, wrong := range []struct {
		name string
		move func(l *layout.Layout)
	}{
		{"m.p in the busy one", func(l *layout.Layout) { l.M.P -= 8 }},
		{"m.p in the busy one", func(l *layout.Layout) { l.M.P += 8 }},
		{"p.runnext in the busy one", func(l *layout.Layout) { l.P.RunNext = l.P.Link - 8 }},
		{"g.m", func(l *layout.Layout) { l.G.M += 8 }},
		{"g.m", func(l *layout.Layout) { l.G.M -= 8 }},
		{"g.atomicstatus", func(l *layout.Layout) { l.G.AtomicStatus -= 8 }},
		{"g.goid", func(l *layout.Layout) { l.G.GoID -= 8 }},
		{"g.goid", func(l *layout.Layout) { l.G.GoID += 8 }},
		{"g.gopc", func(l *layout.Layout) { l.G.GoPC -= 8 }},
		{"g.gopc", func(l *layout.Layout) { l.G.GoPC += 8 }},
		{"m.procid", func(l *layout.Layout) { l.M.ProcID += 8 }},
		{"m.procid", func(l *layout.Layout) { l.M.ProcID -= 8 }},
		{"m.curg", func(l *layout.Layout) { l.M.CurG += 8 }},
		{"m.curg", func(l *layout.Layout) { l.M.CurG -= 8 }},
		{"m.oldp", func(l *layout.Layout) { l.M.OldP += 8 }},
		{"m.id", func(l *layout.Layout) { l.M.ID += 8 }},
		{"m.alllink", func(l *layout.Layout) { l.M.AllLink += 8 }},
		{"m.alllink", func(l *layout.Layout) { l.M.AllLink -= 8 }},
		{"p.id", func(l *layout.Layout) { l.P.ID += 4 }},
		{"p.status", func(l *layout.Layout) { l.P.Status += 4 }},
		{"p.link", func(l *layout.Layout) { l.P.Link += 8 }},
		{"p.m", func(l *layout.Layout) { l.P.M += 8 }},
		{"p.m", func(l *layout.Layout) { l.P.M -= 8 }},
		{"p.runqhead in the busy one", func(l *layout.Layout) { l.P.RunqHead += 8 }},
		{"sched.pidle", func(l *layout.Layout) { l.Sched.PIdle += 8 }},
		{"sched.npidle", func(l *layout.Layout) { l.Sched.NPIdle += 8 }},
	} {
		b := *right
		wrong.move(&b.Layout)
		c := quiet
		if strings.HasSuffix(wrong.name, "busy one") {
			c = busy
		}
		p, err := Open(c.cmd.Process.Pid, &b)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Validate()
		p.Close()
		switch {
		case err == nil:
			t.Errorf("%s in the wrong place was accepted", wrong.name)
		case !errors.Is(err, &refusal.Error{Reason: refusal.Memory}) && !errors.Is(err, refusal.ErrTorn) &&
			!errors.Is(err, refusal.ErrNotStarted):
			t.Errorf("%s in the wrong place: %v", wrong.name, err)
		default:
			t.Logf("%s: %v", wrong.name, err)
		}
	}
}

// TestProofHolds proves a layout that is right over and over in programs that change all the time while they are read:
// none may be refused.
func TestProofHolds(t *testing.T) {
	fixtures.EachToolchain(t, func(t *testing.T, toolchain string) {
		exe := fixtures.Program(t, fixtures.Build{Toolchain: toolchain, Flags: []string{"-ldflags=-s -w"}})
		exe = fixtures.Renamed(t, exe, fixtures.BuildVersion(t, exe))
		b := inspectFile(t, exe)
		for _, what := range []string{"p", "w", "y", "b", "g", "pwg"} {
			c := start(t, exe, nil, "GOMAXPROCS=4")
			c.do("4" + what)
			p := c.open(b)
			for range 30 {
				if err := p.Validate(); err != nil {
					t.Errorf("doing %q: %v", what, err)
				}
			}
			p.Close()
			c.kill()
		}
	})
}
