package goruntime

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// searchIn runs the search on a program, as if no table had its release.
func searchIn(t testing.TB, exe string) (*search, error) {
	t.Helper()
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	im, err := openImage(f)
	if err != nil {
		t.Fatal(err)
	}
	return searchLayout(im)
}

// truth is where the debugging information and the symbols of a program have what the search calls by a name: an offset, or the address of a variable.
func truth(t testing.TB, b *Binary, name string) uint64 {
	t.Helper()
	switch name {
	case "allp":
		return b.Vars.AllP
	case "allm":
		return b.Vars.AllM
	case "gomaxprocs":
		return b.Vars.GOMAXPROCS
	case "gcphase":
		return b.Vars.GCPhase
	}
	typ, field, _ := strings.Cut(name, ".")
	found := uint64(0)
	b.Layout.visit(func(typeName string, alternatives []string, _ bool, dst *int32) {
		switch {
		case typ == "sched" && typeName == "runtime.schedt" && (slices.Contains(alternatives, field) || field == "runqsize" && slices.Contains(alternatives, "runq.size")):
			found = b.Vars.Sched + uint64(*dst) + 1
		case typeName == "runtime."+typ && slices.Contains(alternatives, field):
			found = uint64(*dst) + 1
		}
	})
	if found == 0 {
		t.Fatalf("the test does not know what %s is", name)
	}
	return found - 1
}

// checkSearch compares everything that the search found with a program's debugging information, and lists which fields it did not find.
func checkSearch(t *testing.T, s *search, twin *Binary) {
	t.Helper()
	found := make(map[string]bool)
	for _, told := range s.told {
		found[told.name] = true
		if want := truth(t, twin, told.name); told.at != want {
			t.Errorf("%s: found at %#x, lies at %#x, told by %v", told.name, told.at, want, told.fns)
		}
	}
	for _, f := range s.plan() {
		if !found[f.name] && !f.optional {
			t.Errorf("%s was not found, and not missed", f.name)
		}
	}
	// The layout as it is used, not only what was told.
	for _, c := range []struct {
		name      string
		got, want int64
	}{
		{"g.goid", int64(s.l.G.GoID), int64(twin.Layout.G.GoID)},
		{"m.procid", int64(s.l.M.ProcID), int64(twin.Layout.M.ProcID)},
		{"p.runnext", int64(s.l.P.RunNext), int64(twin.Layout.P.RunNext)},
		{"sched.pidle", int64(s.vars.Sched) + int64(s.l.Sched.PIdle), int64(twin.Vars.Sched) + int64(twin.Layout.Sched.PIdle)},
		{"sched.gcwaiting", int64(s.vars.Sched) + int64(s.l.Sched.GCWaiting), int64(twin.Vars.Sched) + int64(twin.Layout.Sched.GCWaiting)},
	} {
		if c.got != c.want {
			t.Errorf("%s: in the layout at %#x, lies at %#x", c.name, c.got, c.want)
		}
	}
}

// TestSearchEveryRelease pretends that no release is known: every field that is found, in programs of each, must lie where debugging information has it. The search
// uses no row of the table, so that none could have helped it.
func TestSearchEveryRelease(t *testing.T) {
	eachToolchain(t, func(t *testing.T, toolchain string) {
		for _, arch := range []string{"amd64", "arm64"} {
			exe := program(t, build{toolchain: toolchain, arch: arch})
			s, err := searchIn(t, strip(t, exe))
			if err != nil {
				t.Errorf("%s: %v", arch, err)
				continue
			}
			checkSearch(t, s, inspectFile(t, exe))
			few := 0
			for _, told := range s.told {
				if len(told.fns) < 3 {
					few++
				}
			}
			if s.steps > maxAllSteps/4 || s.heard > maxAllFacts/4 {
				t.Errorf("%s: the search took %d instructions and %d facts, too near to its bounds", arch, s.steps, s.heard)
			}
			t.Logf("%s: %d fields and variables, %d of them by two functions only; %d instructions, %d facts", arch, len(s.told), few, s.steps, s.heard)
		}
	})
}

// TestSearchLinking does so for the ways to build that change code.
func TestSearchLinking(t *testing.T) {
	for _, c := range []struct {
		name string
		build
	}{
		{"pie", build{flags: []string{"-buildmode=pie"}}},
		{"pie-arm64", build{arch: "arm64", flags: []string{"-buildmode=pie"}}},
		{"trimpath", build{flags: []string{"-trimpath"}}},
		{"cgo", build{cgo: true, source: "cgotarget"}},
		{"cgo-pie", build{cgo: true, source: "cgotarget", flags: []string{"-buildmode=pie"}}},
		{"cgo-static", build{cgo: true, source: "cgotarget", flags: []string{"-ldflags=-linkmode=external -extldflags=-static"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			exe := program(t, c.build)
			s, err := searchIn(t, strip(t, exe))
			if err != nil {
				t.Fatal(err)
			}
			checkSearch(t, s, inspectFile(t, exe))
		})
	}
}

// TestSearchRefuses has programs whose code does not say enough.
func TestSearchRefuses(t *testing.T) {
	exe := strip(t, program(t, build{}))
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	version := inspectFile(t, exe).GoVersion
	newer := bytes.ReplaceAll(data, []byte(version), []byte(strings.Replace(version, "go1.2", "go1.9", 1)))
	b, err := Inspect(bytes.NewReader(newer))
	if err != nil || b.LayoutSource != pstate.LayoutSearch {
		t.Fatalf("a newer Go: %v", err)
	}
	for name, c := range map[string]struct {
		from, to string
		says     string
	}{
		// Functions that are called something else are not found; one may be missed, two not.
		"one function gone":     {"runtime.runqgrab\x00", "runtime.rungqrab\x00", ""},
		"both functions gone":   {"runtime.notesleep\x00runtime.notewakeup", "runtime.n0tesleep\x00runtime.notewakeup", ""},
		"a field without voice": {"runtime.wakep\x00", "runtime.w4kep\x00", ""},
		"two functions gone":    {"runtime.mcommoninit\x00", "runtime.mc0mmoninit\x00", "allm"},
		"no tid":                {"runtime.minit\x00", "runtime.m1nit\x00", "m.procid"},
	} {
		b, err := Inspect(bytes.NewReader(bytes.ReplaceAll(newer, []byte(c.from), []byte(c.to))))
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.says == "":
			if b.LayoutSource != pstate.LayoutSearch {
				t.Errorf("%s: layout from %q", name, b.LayoutSource)
			}
		case err == nil:
			t.Errorf("%s: accepted", name)
		case !errors.Is(err, &RefusedError{Reason: ReasonGoUnknown}) || !strings.Contains(err.Error(), c.says):
			t.Errorf("%s: %v, which does not name %s", name, err, c.says)
		}
	}
}
