package goruntime

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVariableRules checks the rules for stripped programs against the symbols of unstripped ones.
func TestVariableRules(t *testing.T) {
	eachToolchain(t, func(t *testing.T, toolchain string) {
		for _, b := range ruleBuilds(toolchain) {
			t.Run(b.String(), func(t *testing.T) {
				checkRules(t, program(t, b))
			})
		}
	})
}

// TestVariableRulesOnTools does the same with the compiler and the go command of each toolchain: large programs, the first one optimised with a profile.
func TestVariableRulesOnTools(t *testing.T) {
	eachToolchain(t, func(t *testing.T, toolchain string) {
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
			if b := inspectFile(t, exe); b.Stripped {
				t.Logf("%s is stripped", exe)
				continue
			}
			checkRules(t, exe)
		}
	})
}

func ruleBuilds(toolchain string) []build {
	builds := []build{
		{toolchain: toolchain, arch: "amd64"},
		{toolchain: toolchain, arch: "arm64"},
	}
	if full() {
		for _, arch := range []string{"amd64", "arm64"} {
			builds = append(builds,
				build{toolchain: toolchain, arch: arch, flags: []string{"-buildmode=pie"}},
				build{toolchain: toolchain, arch: arch, flags: []string{"-gcflags=all=-N -l"}},
				build{toolchain: toolchain, arch: arch, flags: []string{"-gcflags=all=-l"}},
			)
		}
		builds = append(builds,
			build{toolchain: toolchain, cgo: true, flags: []string{"-race"}},
			build{toolchain: toolchain, cgo: true, source: "cgotarget"},
			build{toolchain: toolchain, cgo: true, source: "cgotarget", flags: []string{"-buildmode=pie"}},
		)
	}
	return builds
}

// checkRules finds the variables of a program with symbols both ways.
func checkRules(t *testing.T, exe string) {
	want := inspectFile(t, exe)
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	im, err := openImage(f)
	if err != nil {
		t.Fatal(err)
	}
	table, err := openFuncTable(im)
	if err != nil {
		t.Fatal(err)
	}
	wanted := make(map[string]bool)
	for _, name := range ruleFuncs() {
		wanted["runtime."+name] = true
	}
	funcs, err := table.lookup(wanted)
	if err != nil {
		t.Fatal(err)
	}
	if table.hasFuncName("crosscall2") != want.Cgo {
		t.Errorf("the table of functions says cgo=%v, the symbols %v", !want.Cgo, want.Cgo)
	}
	var got Vars
	finder := varFinder{im: im, funcs: funcs}
	finder.find(&got, &want.Layout)
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"allp", got.AllP, want.Vars.AllP},
		{"allm", got.AllM, want.Vars.AllM},
		{"sched", got.Sched, want.Vars.Sched},
		{"gomaxprocs", got.GOMAXPROCS, want.Vars.GOMAXPROCS},
		{"gcphase", got.GCPhase, want.Vars.GCPhase},
	} {
		if c.got != c.want {
			t.Errorf("runtime.%s: found at %#x, is at %#x", c.name, c.got, c.want)
		}
	}
	// Each single rule that disagrees weakens the majority: say so, to improve the rules in time.
	for _, r := range allpRules {
		if refs := finder.refs(r.fn); r.nth >= len(refs) || refs[r.nth]&^8 != want.Vars.AllP&^8 {
			t.Logf("rule %v does not lead to allp (%d references)", r, len(refs))
		}
	}
	for _, r := range gomaxprocsRules {
		if refs := finder.refs(r.fn); r.nth >= len(refs) || refs[r.nth] != want.Vars.GOMAXPROCS {
			t.Logf("rule %v does not lead to gomaxprocs (%d references)", r, len(refs))
		}
	}
	for _, r := range gcphaseRules {
		if refs := finder.refs(r.fn); r.nth >= len(refs) || refs[r.nth] != want.Vars.GCPhase {
			t.Logf("rule %v does not lead to gcphase (%d references)", r, len(refs))
		}
	}
	for r, off := range schedRules(&want.Layout.Sched) {
		if refs := finder.refs(r.fn); r.nth >= len(refs) || refs[r.nth]-uint64(off) != want.Vars.Sched {
			t.Logf("rule %v does not lead to sched (%d references)", r, len(refs))
		}
	}
}
