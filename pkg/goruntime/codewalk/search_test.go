package codewalk

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
)

func TestMain(m *testing.M) { fixtures.Main(m) }

// openFile opens a program until the test ends.
func openFile(t testing.TB, exe string) *binary.File {
	t.Helper()
	r, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	f, err := binary.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// described is what a program says of itself: by its debugging information and its symbol table.
type described struct {
	version  string
	stripped bool // no symbol table: the variables are not known
	dwarf    bool // the layout is from the debugging information; else it is the table's
	cgo      bool
	layout   layout.Layout
	vars     layout.Vars
}

func describedBy(t testing.TB, exe string) *described {
	t.Helper()
	f := openFile(t, exe)
	info, err := f.BuildInfo()
	if err != nil {
		t.Fatal(err)
	}
	d := &described{version: info.GoVersion}
	vars := d.vars.ByName()
	wanted := make(map[string]bool)
	for name := range vars {
		wanted[name] = true
	}
	syms, err := f.Symbols(wanted)
	d.stripped = err != nil
	for name, dst := range vars {
		*dst = syms[name].Addr
	}
	d.cgo = f.ByteAt(d.vars.IsCgo) == 1
	l, err := layout.FromDWARF(f)
	d.dwarf = err == nil
	if !d.dwarf {
		v, _ := binary.ParseVersion(d.version)
		var problem string
		if l, problem = layout.FromTable(v, f.Arch); l == nil {
			t.Fatal(problem)
		}
	}
	d.layout = *l
	return d
}

// searchIn runs the search on a program, as if no table had its release.
func searchIn(t testing.TB, exe string) (*search, error) {
	t.Helper()
	return searchLayout(openFile(t, exe))
}

// truth is where the debugging information and the symbols of a program have what the search calls by a name: an
// offset, or the address of a variable.
func truth(t testing.TB, b *described, name string) uint64 {
	t.Helper()
	switch name {
	case "allp":
		return b.vars.AllP
	case "allm":
		return b.vars.AllM
	case "gomaxprocs":
		return b.vars.GOMAXPROCS
	case "gcphase":
		return b.vars.GCPhase
	}
	typ, field, _ := strings.Cut(name, ".")
	found := uint64(0)
	b.layout.Visit(func(typeName string, alternatives []string, _ bool, dst *int32) {
		switch {
		case typ == "sched" && typeName == "runtime.schedt" && (slices.Contains(alternatives, field) ||
			field == "runqsize" && slices.Contains(alternatives, "runq.size")):
			found = b.vars.Sched + uint64(*dst) + 1
		case typeName == "runtime."+typ && slices.Contains(alternatives, field):
			found = uint64(*dst) + 1
		}
	})
	if found == 0 {
		t.Fatalf("the test does not know what %s is", name)
	}
	return found - 1
}

// checkSearch compares everything that the search found with a program's debugging information, and lists which fields
// it did not find.
func checkSearch(t *testing.T, s *search, twin *described) {
	t.Helper()
	met := make(map[string]bool)
	for _, found := range s.findings {
		met[found.name] = true
		if want := truth(t, twin, found.name); found.at != want {
			t.Errorf("%s: found at %#x, lies at %#x, told by %v", found.name, found.at, want, found.funcs)
		}
	}
	for _, f := range s.fields() {
		if !met[f.name] && !f.optional {
			t.Errorf("%s was not found, and not missed", f.name)
		}
	}
	// The layout as it is used, not only what was told.
	for _, c := range []struct {
		name      string
		got, want int64
	}{
		{"g.goid", int64(s.l.G.GoID), int64(twin.layout.G.GoID)},
		{"m.procid", int64(s.l.M.ProcID), int64(twin.layout.M.ProcID)},
		{"p.runnext", int64(s.l.P.RunNext), int64(twin.layout.P.RunNext)},
		{"sched.pidle", int64(s.vars.Sched) + int64(s.l.Sched.PIdle),
			int64(twin.vars.Sched) + int64(twin.layout.Sched.PIdle)},
		{"sched.gcwaiting", int64(s.vars.Sched) + int64(s.l.Sched.GCWaiting),
			int64(twin.vars.Sched) + int64(twin.layout.Sched.GCWaiting)},
	} {
		if c.got != c.want {
			t.Errorf("%s: in the layout at %#x, lies at %#x", c.name, c.got, c.want)
		}
	}
}

// TestSearchEveryRelease pretends that no release is known: every field that is found, in programs of each, must lie
// where debugging information has it. The search uses no row of the table, so that none could have helped it.
func TestSearchEveryRelease(t *testing.T) {
	fixtures.EachToolchain(t, func(t *testing.T, toolchain string) {
		for _, arch := range []string{"amd64", "arm64"} {
			exe := fixtures.Program(t, fixtures.Build{Toolchain: toolchain, Arch: arch})
			s, err := searchIn(t, fixtures.Strip(t, exe))
			if err != nil {
				t.Errorf("%s: %v", arch, err)
				continue
			}
			checkSearch(t, s, describedBy(t, exe))
			few := 0
			for _, found := range s.findings {
				if len(found.funcs) < 3 {
					few++
				}
			}
			if s.steps > maxAllSteps/4 || s.kept > maxAllFacts/4 {
				t.Errorf("%s: the search took %d instructions and %d facts, too near to its bounds", arch, s.steps,
					s.kept)
			}
			t.Logf("%s: %d fields and variables, %d of them by two functions only; %d instructions, %d facts",
				arch, len(s.findings), few, s.steps, s.kept)
		}
	})
}

// TestSearchLinking does so for the ways to build that change code.
func TestSearchLinking(t *testing.T) {
	for _, c := range []struct {
		name string
		fixtures.Build
	}{
		{"pie", fixtures.Build{Flags: []string{"-buildmode=pie"}}},
		{"pie-arm64", fixtures.Build{Arch: "arm64", Flags: []string{"-buildmode=pie"}}},
		{"trimpath", fixtures.Build{Flags: []string{"-trimpath"}}},
		{"cgo", fixtures.Build{Cgo: true, Source: "cgotarget"}},
		{"cgo-pie", fixtures.Build{Cgo: true, Source: "cgotarget", Flags: []string{"-buildmode=pie"}}},
		{"cgo-static", fixtures.Build{Cgo: true, Source: "cgotarget",
			Flags: []string{"-ldflags=-linkmode=external -extldflags=-static"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			exe := fixtures.Program(t, c.Build)
			s, err := searchIn(t, fixtures.Strip(t, exe))
			if err != nil {
				t.Fatal(err)
			}
			checkSearch(t, s, describedBy(t, exe))
		})
	}
}

// TestSearchModifiedRuntime is the proof that the search finds fields where they are and not where they used to be: in
// programs whose runtime has been changed so that they lie elsewhere.
func TestSearchModifiedRuntime(t *testing.T) {
	moved := 0
	for _, c := range fixtures.Modifications() {
		for _, arch := range c.Archs {
			t.Run(fmt.Sprintf("go%s-%s-%d-%v", c.Toolchain, arch, c.Seed, c.Shuffle), func(t *testing.T) {
				root := fixtures.ModifiedRuntime(t, c.Toolchain, c.Seed, c.Shuffle)
				exe := fixtures.Program(t, fixtures.Build{Toolchain: c.Toolchain, Arch: arch, Root: root})
				twin := describedBy(t, exe)
				if !twin.dwarf {
					t.Fatal("the program has no debugging information")
				}
				v, _ := binary.ParseVersion(twin.version)
				if l, problem := layout.FromTable(v, arch); l == nil || *l == twin.layout {
					t.Fatalf("the runtime was not changed, or is none of the table's: %s", problem)
				}
				s, err := searchIn(t, fixtures.Strip(t, exe))
				if err != nil {
					t.Fatal(err)
				}
				checkSearch(t, s, twin)
				moved++
			})
		}
	}
	t.Logf("%d modified runtimes", moved)
}
