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

	"github.com/p-scope/p-scope/pkg/pstate"
)

// A stripped program that was built with a Go no table knows: its layout is searched for in its code, and it is
// observed by eBPF like any other.
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
	if err := os.WriteFile(bin, bytes.ReplaceAll(program, []byte(version), []byte("go1.99"+version[6:])),
		0o755); err != nil {
		t.Fatal(err)
	}
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.Include = regexp.MustCompile("^pscope-test-target$") })
	pid := startTold(t, bin, "b") // goroutines that keep all Ps busy
	seen(t, c, pid)
	v := view(c, pid)
	if v.Layout != pstate.LayoutSearch || v.Source != pstate.SourceEBPF || !strings.HasPrefix(v.GoVersion, "go1.99") ||
		v.Reason != "" {
		t.Errorf("Go %s, layout from %q, observed by %q (%s)", v.GoVersion, v.Layout, v.Source, v.Reason)
	}
	time.Sleep(200 * time.Millisecond)
	for i, p := range shares(t, c, pid, time.Second) {
		if p[pstate.Running] < 0.9 {
			t.Errorf("P%d is busy all the time, and running %.2f of it", i, p[pstate.Running])
		}
	}
}
