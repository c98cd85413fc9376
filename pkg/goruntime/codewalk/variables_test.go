package codewalk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
)

// TestVariableRules checks the rules for stripped programs against the symbols of unstripped ones.
func TestVariableRules(t *testing.T) {
	fixtures.EachToolchain(t, func(t *testing.T, toolchain string) {
		for _, b := range ruleBuilds(toolchain) {
			t.Run(b.String(), func(t *testing.T) {
				checkRules(t, fixtures.Program(t, b))
			})
		}
	})
}

// TestVariableRulesOnTools does the same with the compiler and the go command of each toolchain: large programs, the
// first one optimised with a profile.
func TestVariableRulesOnTools(t *testing.T) {
	fixtures.EachToolchain(t, func(t *testing.T, toolchain string) {
		cmd := exec.Command("go", "env", "GOROOT", "GOTOOLDIR")
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
		if toolchain != "" {
			cmd.Env = append(os.Environ(), "GOTOOLCHAIN=go"+toolchain)
		}
		out, err := cmd.Output()
		if err != nil {
			t.Skip(err)
		}
		dirs := strings.Fields(string(out))
		for _, exe := range []string{filepath.Join(dirs[0], "bin", "go"), filepath.Join(dirs[1], "compile")} {
			if d := describedBy(t, exe); d.stripped {
				t.Logf("%s is stripped", exe)
				continue
			}
			checkRules(t, exe)
		}
	})
}

func ruleBuilds(toolchain string) []fixtures.Build {
	builds := []fixtures.Build{
		{Toolchain: toolchain, Arch: "amd64"},
		{Toolchain: toolchain, Arch: "arm64"},
	}
	if fixtures.Full() {
		for _, arch := range []string{"amd64", "arm64"} {
			builds = append(builds,
				fixtures.Build{Toolchain: toolchain, Arch: arch, Flags: []string{"-buildmode=pie"}},
				fixtures.Build{Toolchain: toolchain, Arch: arch, Flags: []string{"-gcflags=all=-N -l"}},
				fixtures.Build{Toolchain: toolchain, Arch: arch, Flags: []string{"-gcflags=all=-l"}},
			)
		}
		builds = append(builds,
			fixtures.Build{Toolchain: toolchain, Cgo: true, Flags: []string{"-race"}},
			fixtures.Build{Toolchain: toolchain, Cgo: true, Source: "cgotarget"},
			fixtures.Build{Toolchain: toolchain, Cgo: true, Source: "cgotarget", Flags: []string{"-buildmode=pie"}},
		)
	}
	return builds
}

// checkRules finds the variables of a program with symbols both ways.
func checkRules(t *testing.T, exe string) {
	want := describedBy(t, exe)
	file := openFile(t, exe)
	table, err := binary.OpenFuncTable(file)
	if err != nil {
		t.Fatal(err)
	}
	wanted := make(map[string]bool)
	for _, name := range VariableFuncs() {
		wanted[name] = true
	}
	funcs, err := table.Lookup(wanted)
	if err != nil {
		t.Fatal(err)
	}
	if table.HasFunc("crosscall2") != want.cgo {
		t.Errorf("the table of functions says cgo=%v, the symbols %v", !want.cgo, want.cgo)
	}
	var got layout.Vars
	finder := varFinder{file: file, funcs: funcs}
	finder.find(&got, &want.layout)
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"allp", got.AllP, want.vars.AllP},
		{"allm", got.AllM, want.vars.AllM},
		{"sched", got.Sched, want.vars.Sched},
		{"gomaxprocs", got.GOMAXPROCS, want.vars.GOMAXPROCS},
		{"gcphase", got.GCPhase, want.vars.GCPhase},
	} {
		if c.got != c.want {
			t.Errorf("runtime.%s: found at %#x, is at %#x", c.name, c.got, c.want)
		}
	}
	// Each single rule that disagrees weakens the majority: say so, to improve the rules in time.
	for _, r := range allpRules {
		if refs := finder.refs(r.fn); r.nth >= len(refs) || refs[r.nth]&^8 != want.vars.AllP&^8 {
			t.Logf("rule %v does not lead to allp (%d references)", r, len(refs))
		}
	}
	for _, r := range gomaxprocsRules {
		if refs := finder.refs(r.fn); r.nth >= len(refs) || refs[r.nth] != want.vars.GOMAXPROCS {
			t.Logf("rule %v does not lead to gomaxprocs (%d references)", r, len(refs))
		}
	}
	for _, r := range gcphaseRules {
		if refs := finder.refs(r.fn); r.nth >= len(refs) || refs[r.nth] != want.vars.GCPhase {
			t.Logf("rule %v does not lead to gcphase (%d references)", r, len(refs))
		}
	}
	for r, off := range schedRules(&want.layout.Sched) {
		if refs := finder.refs(r.fn); r.nth >= len(refs) || refs[r.nth]-uint64(off) != want.vars.Sched {
			t.Logf("rule %v does not lead to sched (%d references)", r, len(refs))
		}
	}
}
