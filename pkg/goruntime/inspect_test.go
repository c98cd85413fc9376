package goruntime

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// TestInspectMatrix looks at programs of every Go line, for both architectures, with symbols and without.
func TestInspectMatrix(t *testing.T) {
	eachToolchain(t, func(t *testing.T, toolchain string) {
		for _, arch := range []string{"amd64", "arm64"} {
			exe := program(t, build{toolchain: toolchain, arch: arch})
			b := inspectFile(t, exe)
			if toolchain != "" && b.GoVersion != "go"+toolchain {
				t.Errorf("GoVersion = %q", b.GoVersion)
			}
			if b.Arch != arch || b.Module != "example.com/target" || b.PIE || b.Cgo || b.Stripped || b.BuildID == "" {
				t.Errorf("%s: %+v", arch, b)
			}
			if b.LayoutSource != pstate.LayoutDWARF {
				t.Errorf("%s: layout from %q", arch, b.LayoutSource)
			}
			checkTLS(t, b, -8)
			checkProbes(t, exe, b)

			// The table must say what DWARF says.
			v, _ := parseGoVersion(b.GoVersion)
			fromTable, problem := tableLayout(v, arch)
			if fromTable == nil {
				t.Errorf("%s: %s", arch, problem)
			} else if *fromTable != b.Layout {
				t.Errorf("%s: table and DWARF disagree:\n%+v\n%+v", arch, *fromTable, b.Layout)
			}

			stripped := strip(t, exe)
			s := inspectFile(t, stripped)
			if !s.Stripped || s.LayoutSource != pstate.LayoutTable || s.Layout != b.Layout {
				t.Errorf("%s stripped: stripped=%v, layout from %q, same as DWARF: %v", arch, s.Stripped, s.LayoutSource, s.Layout == b.Layout)
			}
			checkTLS(t, s, -8)
			checkProbes(t, stripped, s)
			if s.Vars.AllP != b.Vars.AllP || s.Vars.AllM != b.Vars.AllM || s.Vars.Sched != b.Vars.Sched || s.Vars.GOMAXPROCS != b.Vars.GOMAXPROCS ||
				s.Vars.GCPhase != b.Vars.GCPhase {
				t.Errorf("%s stripped: %+v, with symbols %+v", arch, s.Vars, b.Vars)
			}
			if len(s.Probes) != len(b.Probes) || len(s.HotProbes) != len(b.HotProbes) {
				t.Errorf("%s stripped: %d and %d probe sites, with symbols %d and %d", arch, len(s.Probes), len(s.HotProbes), len(b.Probes), len(b.HotProbes))
			}
			for i := range min(len(s.Probes), len(b.Probes)) {
				if s.Probes[i].Func != b.Probes[i].Func || s.Probes[i].Addr != b.Probes[i].Addr {
					t.Errorf("%s stripped: probe %+v, with symbols %+v", arch, s.Probes[i], b.Probes[i])
				}
			}
		}
	})
}

// TestInspectLinking covers the ways to link that move things: position-independent, by the C linker, both, and stripped of symbols by strip(1).
func TestInspectLinking(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no C compiler")
	}
	toolchain := ""
	check := func(t *testing.T, b build, wantTLS int64, wantPIE, wantCgo bool) {
		t.Helper()
		exe := program(t, b)
		bin := inspectFile(t, exe)
		checkTLS(t, bin, wantTLS)
		checkProbes(t, exe, bin)
		if bin.PIE != wantPIE || bin.Cgo != wantCgo || bin.Stripped {
			t.Errorf("%v: PIE %v, cgo %v, stripped %v", b, bin.PIE, bin.Cgo, bin.Stripped)
		}
		stripped := strip(t, exe)
		s := inspectFile(t, stripped)
		checkTLS(t, s, wantTLS)
		checkProbes(t, stripped, s)
		if s.PIE != wantPIE || s.Cgo != wantCgo || !s.Stripped || s.LayoutSource != pstate.LayoutTable {
			t.Errorf("%v stripped: PIE %v, cgo %v, stripped %v, layout %q", b, s.PIE, s.Cgo, s.Stripped, s.LayoutSource)
		}
		if s.Vars.AllP != bin.Vars.AllP || s.Vars.AllM != bin.Vars.AllM || s.Vars.Sched != bin.Vars.Sched || s.Vars.GOMAXPROCS != bin.Vars.GOMAXPROCS {
			t.Errorf("%v stripped: %+v, with symbols %+v", b, s.Vars, bin.Vars)
		}
	}
	run := func(t *testing.T) {
		// 8 bytes for G and 20 for pad, rounded up to 32: G is at the beginning of the block.
		t.Run("pie", func(t *testing.T) {
			check(t, build{toolchain: toolchain, flags: []string{"-buildmode=pie"}}, -8, true, false)
		})
		t.Run("pie-arm64", func(t *testing.T) {
			check(t, build{toolchain: toolchain, arch: "arm64", flags: []string{"-buildmode=pie"}}, 0, true, false)
		})
		t.Run("cgo", func(t *testing.T) {
			check(t, build{toolchain: toolchain, cgo: true, source: "cgotarget"}, -32, false, true)
		})
		t.Run("cgo-pie", func(t *testing.T) {
			check(t, build{toolchain: toolchain, cgo: true, source: "cgotarget", flags: []string{"-buildmode=pie"}}, -32, true, true)
		})
		t.Run("external", func(t *testing.T) {
			check(t, build{toolchain: toolchain, cgo: true, flags: []string{"-ldflags=-linkmode=external"}}, -8, false, true)
		})
		t.Run("cgo-arm64", func(t *testing.T) {
			needCross(t)
			check(t, build{toolchain: toolchain, arch: "arm64", cgo: true, source: "cgotarget"}, 16, false, true)
		})
		t.Run("cgo-pie-arm64", func(t *testing.T) {
			needCross(t)
			check(t, build{toolchain: toolchain, arch: "arm64", cgo: true, source: "cgotarget", flags: []string{"-buildmode=pie"}}, 16, true, true)
		})
		// Without relaxation the slot's offset is in the global offset table, put there by the loader.
		t.Run("cgo-pie-got", func(t *testing.T) {
			check(t, build{toolchain: toolchain, cgo: true, source: "cgotarget", flags: []string{"-buildmode=pie", "-ldflags=-extldflags=-Wl,--no-relax"}},
				-32, true, true)
		})
		t.Run("cgo-pie-got-arm64", func(t *testing.T) {
			needCross(t)
			check(t, build{toolchain: toolchain, arch: "arm64", cgo: true, source: "cgotarget",
				flags: []string{"-buildmode=pie", "-ldflags=-extldflags=-Wl,--no-relax"}}, 16, true, true)
		})
		t.Run("cgo-static", func(t *testing.T) {
			exe := program(t, build{toolchain: toolchain, cgo: true, source: "cgotarget", flags: []string{"-ldflags=-linkmode=external -extldflags=-static"}})
			if b := inspectFile(t, exe); !b.TLSGKnown {
				t.Error("the slot of G is not known")
			}
		})
	}
	if !full() {
		run(t)
		return
	}
	for _, toolchain = range toolchains {
		t.Run("go"+toolchain, run)
	}
}

// strip makes a copy of a program whose symbols and debugging information are hidden, as strip(1) would, for either architecture. Linking with
// -ldflags=-s instead would move the variables, because the flags are recorded in the program.
func strip(t *testing.T, exe string) string {
	t.Helper()
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	table := binary.LittleEndian.Uint64(data[40:])
	for i, s := range f.Sections {
		if s.Name == ".symtab" || strings.HasPrefix(s.Name, ".debug_") {
			binary.LittleEndian.PutUint32(data[table+uint64(i)*64+4:], uint32(elf.SHT_NOBITS))
		}
	}
	out := exe + ".stripped"
	if err := os.WriteFile(out, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return out
}

func needCross(t *testing.T) {
	if _, err := exec.LookPath(crossCC); err != nil {
		t.Skip("no C compiler for arm64")
	}
}

func checkTLS(t *testing.T, b *Binary, want int64) {
	t.Helper()
	if b.Arch == "arm64" && !b.Cgo {
		if b.TLSGKnown || !b.GRegister {
			t.Errorf("arm64 without cgo: slot known %v, register %v", b.TLSGKnown, b.GRegister)
		}
		return
	}
	if !b.TLSGKnown || b.TLSG != want || b.GRegister {
		t.Errorf("slot of G at %d (known: %v), want %d", b.TLSG, b.TLSGKnown, want)
	}
}

// checkProbes reads the instructions back from the file.
func checkProbes(t *testing.T, exe string, b *Binary) {
	t.Helper()
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, s := range b.Probes {
		names[s.Func] = true
		if s.FileOffset+16 > uint64(len(data)) {
			t.Errorf("%s: file offset %#x", s.Func, s.FileOffset)
			continue
		}
		code := data[s.FileOffset:]
		switch {
		case s.Func == WorldStarted:
			// Not at an entry, but at the call of wakep that ends a stop.
			if call := b.Arch == "amd64" && code[0] == 0xe8 || b.Arch == "arm64" && code[3]>>2 == 0x25; !call || !s.Emulated {
				t.Errorf("%s: % x (%q, emulated %v)", s.Func, code[:5], s.Insn, s.Emulated)
			}
			if s.Ended == 0 {
				t.Errorf("%s: it was not found where the time is kept at which a stop ended", s.Func)
			}
		case b.Arch == "amd64":
			in, err := x86asm.Decode(code[:16], 64)
			if err != nil || in.Op != x86asm.PUSH || in.Args[0] != x86asm.RBP || !s.Emulated || s.Insn != "PUSHQ BP" {
				t.Errorf("%s: %v (%q, emulated %v), error %v", s.Func, in, s.Insn, s.Emulated, err)
			}
		case b.Arch == "arm64":
			// The first instruction of the frame: a store of the link register, or for large frames the new stack pointer in X20.
			in, err := arm64asm.Decode(code[:4])
			before, _ := arm64asm.Decode(data[s.FileOffset-4 : s.FileOffset])
			if err != nil || s.Emulated || !strings.HasPrefix(before.String(), "B LS,") {
				t.Errorf("%s: %v after %v, error %v", s.Func, in, before, err)
			}
		}
	}
	checkStarted(t, exe, b)
	for _, fn := range append([]string{WorldStarted}, probeFuncs...) {
		if !names[fn] {
			t.Errorf("no site for %s", fn)
		}
	}
	for _, s := range b.HotProbes {
		if b.Arch == "amd64" && !s.Emulated {
			t.Logf("hot probe %s is single-stepped: %s", s.Func, s.Insn)
		}
	}
}

// TestRefusals checks that what cannot be observed is refused for the right reason.
func TestRefusals(t *testing.T) {
	exe := program(t, build{})
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	patched := func(from, to string) []byte {
		if len(from) != len(to) {
			t.Fatal("lengths differ")
		}
		return bytes.ReplaceAll(data, []byte(from), []byte(to))
	}
	version := inspectFile(t, exe).GoVersion
	if !strings.HasPrefix(version, "go1.2") {
		t.Skip("the test patches a version go1.2x")
	}
	with := func(v string) []byte { return patched(version, (v + version[len(v):])[:len(version)]) }
	setMachine := func(m elf.Machine) []byte {
		d := bytes.Clone(data)
		d[18], d[19] = byte(m), byte(m>>8)
		return d
	}
	stripped, err := os.ReadFile(program(t, build{flags: []string{"-ldflags=-s -w"}}))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/bin/sh")
	if err != nil {
		self = []byte("#!")
	}
	for name, c := range map[string]struct {
		data   []byte
		reason Reason
	}{
		"empty":        {nil, ReasonNotGo},
		"text":         {[]byte(strings.Repeat("not a program ", 20)), ReasonNotGo},
		"truncated":    {data[:4096], ReasonGoUnknown},
		"headers only": {data[:64], ReasonNotGo},
		"C":            {self, ReasonNotGo},
		"old":          {with("go1.18"), ReasonGoTooOld},
		"arm":          {setMachine(elf.EM_ARM), ReasonArch},
		"riscv":        {setMachine(elf.EM_RISCV), ReasonArch},
		// Its code is searched; without a function that tells where threads have their ids, in vain.
		"new, stripped": {
			bytes.ReplaceAll(bytes.ReplaceAll(stripped, []byte(version), []byte("go1.29"+version[6:])), []byte("runtime.minit\x00"), []byte("runtime.m1nit\x00")),
			ReasonGoUnknown,
		},
	} {
		_, err := Inspect(bytes.NewReader(c.data))
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Reason != c.reason {
			t.Errorf("%s: %v, want reason %s", name, err, c.reason)
		} else if refused.Error() == "" || strings.HasSuffix(refused.Error(), ".") {
			t.Errorf("%s: no sentence: %q", name, refused.Error())
		}
	}
	// A newer Go whose debugging information describes everything needed is fine.
	if b, err := Inspect(bytes.NewReader(with("go1.29"))); err != nil || b.LayoutSource != pstate.LayoutDWARF {
		t.Errorf("newer Go with DWARF: %v", err)
	}
}

func TestStopReasons(t *testing.T) {
	if got := StopReason("go1.26.8", 1); got != "GC mark termination" {
		t.Errorf("reason 1 = %q", got)
	}
	if got := StopReason("go1.21.0", 200); got != "reason 200" {
		t.Errorf("reason 200 = %q", got)
	}
	if got := StopReason("weird", 1); got != "reason 1" {
		t.Errorf("reason 1 of an unknown version = %q", got)
	}
	eachToolchain(t, func(t *testing.T, toolchain string) {
		cmd := exec.Command("go", "env", "GOROOT")
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
		if toolchain != "" {
			cmd.Env = append(os.Environ(), "GOTOOLCHAIN=go"+toolchain)
		}
		root, err := cmd.Output()
		if err != nil {
			t.Skip(err)
		}
		src, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", "runtime", "proc.go"))
		if err != nil {
			t.Fatal(err)
		}
		// The constants are declared with their words as comments: stwGCMarkTerm // "GC mark termination".
		_, rest, _ := strings.Cut(string(src), "stwUnknown ")
		block, _, ok := strings.Cut(rest, "\n)\n")
		if !ok {
			t.Fatal("runtime/proc.go has no stwReason constants")
		}
		lines := strings.Split(block, "\n")
		if len(lines) != len(stopReasons) {
			t.Errorf("%d reasons, want %d", len(lines), len(stopReasons))
		}
		for i, line := range lines {
			_, quoted, _ := strings.Cut(line, `// "`)
			word := strings.TrimSuffix(strings.TrimSpace(quoted), `"`)
			if got := StopReason("go"+toolchains[0], uint8(i)); got != word {
				t.Errorf("reason %d is %q in the runtime, %q here", i, word, got)
			}
		}
	})
}

func TestParseGoVersion(t *testing.T) {
	for in, want := range map[string]goVersion{
		"go1.26.8":                             {minor: 26, patch: 8, plain: true},
		"go1.21":                               {minor: 21, plain: true},
		"go1.27rc2":                            {minor: 27, plain: true},
		"go1.26.8 X:nogreenteagc,boringcrypto": {minor: 26, patch: 8, plain: true, experiments: "nogreenteagc,boringcrypto"},
		"go1.26.8-X:nogreenteagc":              {minor: 26, patch: 8, plain: true, experiments: "nogreenteagc"},
		"go1.28-devel_0123abc-X:simd":          {minor: 28, experiments: "simd"},
		"go1.22.9 (Red Hat 1.22.9-2.el9)":      {minor: 22, patch: 9, plain: true},
		"go1.24.1-1 X:systemcrypto":            {minor: 24, patch: 1, plain: true, experiments: "systemcrypto"},
		"devel go1.28-0123abc Tue Nov 3":       {minor: 28},
		"go1.28-devel_0123abc Tue Nov 3":       {minor: 28},
	} {
		if got, ok := parseGoVersion(in); !ok || got != want {
			t.Errorf("%q: %+v, want %+v", in, got, want)
		}
	}
	for _, in := range []string{"", "unknown", "go2.1", "go1.", "go1.x", "devel +0123abc", "go1.99999999999999999999"} {
		if got, ok := parseGoVersion(in); ok {
			t.Errorf("%q: %+v", in, got)
		}
	}
}
