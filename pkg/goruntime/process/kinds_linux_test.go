package process

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// TestKinds: programs that lack what ordinary Go programs have, built for real, and what is made of each. A reason of
// "" is one that can be observed.
func TestKinds(t *testing.T) {
	plain := fixtures.Program(t, fixtures.Build{})
	stripped := fixtures.Program(t, fixtures.Build{Flags: []string{"-ldflags=-s -w"}})
	made := func(name string, change func(elf []byte)) func(*testing.T) string {
		return func(t *testing.T) string {
			data, err := os.ReadFile(stripped)
			if err != nil {
				t.Fatal(err)
			}
			change(data)
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, data, 0o755); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	noSections := func(b []byte) {
		clear(b[40:48]) // e_shoff
		clear(b[60:64]) // e_shnum, e_shstrndx
	}
	noInformation := func(b []byte) {
		magic := bytes.Index(b, []byte("\xff Go buildinf:"))
		clear(b[magic : magic+32])
	}
	tool := func(args ...string) func(*testing.T) string {
		return func(t *testing.T) string {
			out := filepath.Join(t.TempDir(), "made")
			args := append([]string{}, args...)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "OUT", out)
			}
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Dir = fixtures.Source("target")
			said, err := cmd.CombinedOutput()
			if errors.Is(err, exec.ErrNotFound) {
				t.Skipf("%s is missing", args[0])
			}
			if err != nil {
				t.Fatalf("%v: %v\n%s", args, err, said)
			}
			return out
		}
	}
	for name, c := range map[string]struct {
		file   func(*testing.T) string
		reason refusal.Reason
		layout pstate.Layout
		says   string
	}{
		"no sections": {made("nosections", noSections), "", pstate.LayoutTable, ""},
		"no build information": {tool("objcopy", "--remove-section", ".go.buildinfo", plain, "OUT"), "",
			pstate.LayoutDWARF, ""},
		"no build information, stripped": {made("noinfo", noInformation), "", pstate.LayoutSearch, ""},
		"neither": {made("neither", func(b []byte) { noSections(b); noInformation(b) }), "",
			pstate.LayoutSearch, ""},
		"packed": {tool("upx-ucl", "-q", "-1", "-o", "OUT", plain), refusal.Packed, "", "UPX"},
		"gccgo":  {tool("gccgo-12", "-o", "OUT", "main.go"), refusal.OtherGo, "", "gccgo"},
		"gccgo, in one file, stripped": {tool("gccgo-12", "-static-libgo", "-s", "-o", "OUT", "main.go"),
			refusal.OtherGo,
			"", "gccgo"},
		"garble": {tool("garble", "build", "-o", "OUT", "."), refusal.Obfuscated, "", "garble"},
		"C": {tool("gcc", "-o", "OUT", "../host/host.c", "-ldl", "-lpthread"), refusal.NotGo, "",
			""},
		"C, 32 bits": {tool("gcc", "-m32", "-nostdlib", "-static", "-Wl,-emain", "-x", "c",
			"../host/empty.c", "-o", "OUT"), refusal.NotGo, "", ""},
		"Go, 32 bits": {func(t *testing.T) string { return fixtures.Program(t, fixtures.Build{Arch: "386"}) },
			refusal.Arch,
			"", "64-bit"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(c.file(t))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			b, err := goruntime.Inspect(f)
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				if b.LayoutSource != c.layout {
					t.Errorf("the layout is from %q, want %q", b.LayoutSource, c.layout)
				}
				exe := start(t, f.Name(), nil)
				validateSoon(t, exe.open(b))
				return
			}
			if !errors.Is(err, &refusal.Error{Reason: c.reason}) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want reason %s and a sentence with %q", err, c.reason, c.says)
			}
		})
	}
}

// A program that calls itself TinyGo's by its symbols is one: TinyGo itself cannot be installed from where the tests'
// tools come from.
func TestTinyGoByItsSymbols(t *testing.T) {
	out := filepath.Join(t.TempDir(), "tiny")
	cmd := exec.Command("gcc", "-o", out, "-x", "c", "-")
	cmd.Stdin = strings.NewReader("void tinygo_startTask(void) {}\nint main(void) { return 0; }\n")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("gcc: %v %s", err, said)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := goruntime.Inspect(f); !errors.Is(err, &refusal.Error{Reason: refusal.OtherGo}) ||
		!strings.Contains(err.Error(), "TinyGo") {
		t.Errorf("%v", err)
	}
}
