package goruntime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// TestKinds: programs that lack what ordinary Go programs have, built for real, and what is made of each. A reason of
// "" is one that can be observed.
func TestKinds(t *testing.T) {
	plain, stripped := program(t, build{}), program(t, build{flags: []string{"-ldflags=-s -w"}})
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
			cmd.Dir = filepath.Join("testdata", "target")
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
		reason Reason
		layout pstate.Layout
		says   string
	}{
		"no sections": {made("nosections", noSections), "", pstate.LayoutTable, ""},
		"no build information": {tool("objcopy", "--remove-section", ".go.buildinfo", plain, "OUT"), "",
			pstate.LayoutDWARF, ""},
		"no build information, stripped": {made("noinfo", noInformation), "", pstate.LayoutSearch, ""},
		"neither": {made("neither", func(b []byte) { noSections(b); noInformation(b) }), "",
			pstate.LayoutSearch, ""},
		"packed": {tool("upx-ucl", "-q", "-1", "-o", "OUT", plain), ReasonPacked, "", "UPX"},
		"gccgo":  {tool("gccgo-12", "-o", "OUT", "main.go"), ReasonOtherGo, "", "gccgo"},
		"gccgo, in one file, stripped": {tool("gccgo-12", "-static-libgo", "-s", "-o", "OUT", "main.go"), ReasonOtherGo,
			"", "gccgo"},
		"garble": {tool("garble", "build", "-o", "OUT", "."), ReasonObfuscated, "", "garble"},
		"C": {tool("gcc", "-o", "OUT", "../host/host.c", "-ldl", "-lpthread"), ReasonNotGo, "",
			""},
		"C, 32 bits": {tool("gcc", "-m32", "-nostdlib", "-static", "-Wl,-emain", "-x", "c",
			"../host/empty.c", "-o", "OUT"), ReasonNotGo, "", ""},
		"Go, 32 bits": {func(t *testing.T) string { return program(t, build{arch: "386"}) }, ReasonArch,
			"", "64-bit"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(c.file(t))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			b, err := Inspect(f)
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
			if !errors.Is(err, &RefusedError{Reason: c.reason}) || !strings.Contains(err.Error(), c.says) {
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
	if _, err := Inspect(
		f,
	); !errors.Is(err, &RefusedError{Reason: ReasonOtherGo}) ||
		!strings.Contains(err.Error(), "TinyGo") {
		t.Errorf("%v", err)
	}
}

func FuzzMappedFiles(f *testing.F) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(maps)
	f.Add([]byte("7f0000000000-7f0000001000 r-xp 00000000 08:01 42   /lib/a b (deleted)\n"))
	f.Add(binary.LittleEndian.AppendUint64([]byte("1-2 r-xp 0 0:0 1 /"), 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer fuzztest.Bound(t, fuzztest.Small, len(b))()
		files, _ := MappedFiles(bytes.NewReader(b))
		for _, m := range files {
			if m.Inode == 0 || !strings.HasPrefix(m.Path, "/") && m.Path != "" {
				t.Errorf("%+v is no file", m)
			}
			if p := m.PathFrom("/proc", 1); !strings.HasPrefix(p, "/proc/1/root") {
				t.Errorf("%q leads out of the process's root", p)
			}
		}
	})
}
