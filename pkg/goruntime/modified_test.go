package goruntime

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// fixedFields is how many of its first fields a type keeps in their places: the linker and assembly know those of g by number.
var fixedFields = map[string]int{"g": 5, "m": 1, "p": 0, "schedt": 0}

// modifiedRuntime makes a toolchain in whose runtime the fields of g, m, p and schedt lie elsewhere: with others in between, and in another order if shuffle is set.
// It gives the toolchain's GOROOT, which borrows everything else from the one that is there.
func modifiedRuntime(t testing.TB, toolchain string, seed uint64, shuffle bool) string {
	t.Helper()
	from, root := goroot(t, toolchain), filepath.Join(programDir, fmt.Sprintf("goroot-%s-%d-%v", toolchain, seed, shuffle))
	if _, err := os.Stat(root); err == nil {
		return root
	}
	inRuntime := filepath.Join("src", "runtime")
	for _, dir := range []string{"", "src", inRuntime} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(filepath.Join(from, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			switch {
			case name == "src" || name == inRuntime:
				continue
			case dir != inRuntime || e.IsDir():
				err = os.Symlink(filepath.Join(from, name), filepath.Join(root, name))
			default:
				var data []byte
				if data, err = os.ReadFile(filepath.Join(from, name)); err == nil {
					if e.Name() == "runtime2.go" {
						data = moveFields(t, data, seed, shuffle)
					}
					err = os.WriteFile(filepath.Join(root, name), data, 0o644)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

// moveFields rewrites the source of runtime/runtime2.go.
func moveFields(t testing.TB, src []byte, seed uint64, shuffle bool) []byte {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "runtime2.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	out := bytes.Clone(src)
	changed := 0
	// From the end, so that positions stay right.
	for i := len(file.Decls) - 1; i >= 0; i-- {
		decl, ok := file.Decls[i].(*ast.GenDecl)
		if !ok || decl.Tok != token.TYPE {
			continue
		}
		for j := len(decl.Specs) - 1; j >= 0; j-- {
			spec := decl.Specs[j].(*ast.TypeSpec)
			fixed, wanted := fixedFields[spec.Name.Name]
			typ, ok := spec.Type.(*ast.StructType)
			if !wanted || !ok {
				continue
			}
			var fields []string
			for _, f := range typ.Fields.List {
				fields = append(fields, string(src[fset.Position(f.Pos()).Offset:fset.Position(f.End()).Offset]))
			}
			if rest := fields[fixed:]; shuffle {
				// Not over the whole type, which would leave what a snapshot reads in one piece kilobytes apart.
				for len(rest) > 0 {
					some := rest[:min(6, len(rest))]
					r.Shuffle(len(some), func(a, b int) { some[a], some[b] = some[b], some[a] })
					rest = rest[len(some):]
				}
			}
			var body strings.Builder
			for n, f := range fields {
				// Since Go 1.25 an m must not be larger than 2048 bytes, of which little is left.
				one, most := 4, 3
				if spec.Name.Name == "m" {
					one, most = 12, 1
				}
				if n >= fixed && r.IntN(one) == 0 {
					fmt.Fprintf(&body, "\n\tpscopePad%d [%d]%s", n, 1+r.IntN(most), []string{"byte", "uint32", "uintptr"}[r.IntN(3)])
				}
				body.WriteString("\n\t" + f)
			}
			from, to := fset.Position(typ.Fields.Opening).Offset+1, fset.Position(typ.Fields.Closing).Offset
			out = append(append(bytes.Clone(out[:from]), body.String()+"\n"...), out[to:]...)
			changed++
		}
	}
	if changed != len(fixedFields) {
		t.Fatalf("%d types changed", changed)
	}
	return out
}

// goroot is where a toolchain has its sources.
func goroot(t testing.TB, toolchain string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command("go", "env", "GOROOT")
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
	if toolchain != "" {
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN=go"+toolchain)
	}
	root, err := cmd.Output()
	if err != nil {
		t.Skipf("no toolchain %s: %v", toolchain, err)
	}
	return strings.TrimSpace(string(root))
}

// renamed is a copy of a program that says it was built with Go 1.99.
func renamed(t testing.TB, exe, version string) string {
	t.Helper()
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	newer := "go1.99" + version[6:]
	if len(version) < 6 || !bytes.Contains(data, []byte(version)) {
		t.Fatalf("the program does not name %s", version)
	}
	out := exe + ".go1.99"
	if err := os.WriteFile(out, bytes.ReplaceAll(data, []byte(version), []byte(newer)), 0o755); err != nil {
		t.Fatal(err)
	}
	return out
}

// buildVersionOf reads the Go version of a program that may be refused.
func buildVersionOf(t testing.TB, exe string) string {
	t.Helper()
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := buildinfo.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return info.GoVersion
}

// TestSearchModifiedRuntime is the proof that the search finds fields where they are and not where they used to be: in programs whose runtime has been changed so that
// they lie elsewhere.
func TestSearchModifiedRuntime(t *testing.T) {
	moved := 0
	for _, c := range modifications() {
		for _, arch := range c.archs {
			t.Run(fmt.Sprintf("go%s-%s-%d-%v", c.toolchain, arch, c.seed, c.shuffle), func(t *testing.T) {
				exe := program(t, build{toolchain: c.toolchain, arch: arch, root: modifiedRuntime(t, c.toolchain, c.seed, c.shuffle)})
				twin := inspectFile(t, exe)
				if twin.LayoutSource != pstate.LayoutDWARF {
					t.Fatalf("the truth comes from %q", twin.LayoutSource)
				}
				v, _ := parseGoVersion(twin.GoVersion)
				if l, problem := tableLayout(v, arch); l == nil || *l == twin.Layout {
					t.Fatalf("the runtime was not changed, or is none of the table's: %s", problem)
				}
				s, err := searchIn(t, strip(t, exe))
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

type modification struct {
	toolchain string
	seed      uint64
	shuffle   bool
	archs     []string
}

func modifications() []modification {
	both := []string{"amd64", "arm64"}
	if testing.Short() {
		return []modification{{"", 1, true, both[:1]}}
	}
	list := []modification{{"", 1, false, both}, {"", 2, true, both}}
	if full() {
		for _, toolchain := range toolchains {
			for seed := range uint64(2) {
				list = append(list, modification{toolchain, 10 + seed, seed == 1, both})
			}
		}
	}
	return list
}
