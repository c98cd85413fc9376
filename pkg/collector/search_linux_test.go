package collector

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/layout"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// A stripped program that was built with a Go no table knows: its layout is searched for in its code, and it is observed by eBPF like any other.
func TestUnknownGoIsObserved(t *testing.T) {
	version := runtime.Version()
	if !strings.HasPrefix(version, "go1.2") || strings.Contains(version, "devel") {
		t.Skipf("the test renames a release, not %s", version)
	}
	bin := filepath.Join(t.TempDir(), "pscope-test-target")
	build := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", bin, ".")
	build.Dir = filepath.Join("..", "goruntime", "testdata", "target")
	build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, bytes.ReplaceAll(program, []byte(version), []byte("go1.99"+version[6:])), 0o755); err != nil {
		t.Fatal(err)
	}
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.Include = regexp.MustCompile("^pscope-test-target$") })
	pid := startTold(t, bin, "b") // goroutines that keep all Ps busy
	seen(t, c, pid)
	v := view(c, pid)
	if v.Layout != pstate.LayoutSearch || v.Source != pstate.SourceEBPF || !strings.HasPrefix(v.GoVersion, "go1.99") || v.Reason != "" {
		t.Errorf("Go %s, layout from %q, observed by %q (%s)", v.GoVersion, v.Layout, v.Source, v.Reason)
	}
	time.Sleep(200 * time.Millisecond)
	for i, p := range shares(t, c, pid, time.Second) {
		if p[pstate.Running] < 0.9 {
			t.Errorf("P%d is busy all the time, and running %.2f of it", i, p[pstate.Running])
		}
	}
}

// What the kernel side does not reach must be refused before it looks elsewhere.
func TestOutOfReach(t *testing.T) {
	good := layout.Layout{
		M: layout.M{ProcID: 64, CurG: 184, P: 208, NextP: 216, OldP: 224},
		P: layout.P{ID: 0, Status: 4, Link: 8, SchedTick: 16, SyscallTick: 20, M: 48},
	}
	if field := outOfReach(&good); field != "" {
		t.Errorf("the layout of Go 1.26 is out of reach: %s", field)
	}
	for want, move := range map[string]func(l *layout.Layout){
		"m.curg":        func(l *layout.Layout) { l.M.CurG = 56 },
		"m.p":           func(l *layout.Layout) { l.M.P, l.M.NextP, l.M.OldP = 40, 48, 56 },
		"m.nextp":       func(l *layout.Layout) { l.M.NextP = 64 + 8*wordsOfM },
		"m.oldp":        func(l *layout.Layout) { l.M.OldP += 8 },
		"p.id":          func(l *layout.Layout) { l.P.ID = 24 },
		"p.status":      func(l *layout.Layout) { l.P.Status = 64 },
		"p.link":        func(l *layout.Layout) { l.P.Link = 12 },
		"p.schedtick":   func(l *layout.Layout) { l.P.SchedTick = 72 },
		"p.syscalltick": func(l *layout.Layout) { l.P.SyscallTick = 1 << 12 },
		"p.m":           func(l *layout.Layout) { l.P.M = 60 },
	} {
		l := good
		move(&l)
		if field := outOfReach(&l); field != want {
			t.Errorf("%s moved: %q is out of reach", want, field)
		}
	}
}
