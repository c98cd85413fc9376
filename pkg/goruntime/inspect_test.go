package goruntime

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
	"github.com/p-scope/p-scope/pkg/goruntime/probes"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

func TestMain(m *testing.M) { fixtures.Main(m) }

// inspectFile runs Inspect on a file.
func inspectFile(t testing.TB, path string) *Binary {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := Inspect(f)
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(path), err)
	}
	return b
}

// TestInspectMatrix looks at programs of every Go line, for both architectures, with symbols and without.
func TestInspectMatrix(t *testing.T) {
	fixtures.EachToolchain(t, func(t *testing.T, toolchain string) {
		for _, arch := range []string{"amd64", "arm64"} {
			exe := fixtures.Program(t, fixtures.Build{Toolchain: toolchain, Arch: arch})
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
			v, _ := binary.ParseVersion(b.GoVersion)
			fromTable, problem := layout.FromTable(v, arch)
			if fromTable == nil {
				t.Errorf("%s: %s", arch, problem)
			} else if *fromTable != b.Layout {
				t.Errorf("%s: table and DWARF disagree:\n%+v\n%+v", arch, *fromTable, b.Layout)
			}

			stripped := fixtures.Strip(t, exe)
			s := inspectFile(t, stripped)
			if !s.Stripped || s.LayoutSource != pstate.LayoutTable || s.Layout != b.Layout {
				t.Errorf("%s stripped: stripped=%v, layout from %q, same as DWARF: %v",
					arch, s.Stripped, s.LayoutSource, s.Layout == b.Layout)
			}
			checkTLS(t, s, -8)
			checkProbes(t, stripped, s)
			if !sameVars(s, b) || s.Vars.GCPhase != b.Vars.GCPhase {
				t.Errorf("%s stripped: %+v, with symbols %+v", arch, s.Vars, b.Vars)
			}
			if len(s.Probes) != len(b.Probes) {
				t.Errorf("%s stripped: %d probe sites, with symbols %d", arch, len(s.Probes), len(b.Probes))
			}
			for i := range min(len(s.Probes), len(b.Probes)) {
				if s.Probes[i].Func != b.Probes[i].Func || s.Probes[i].Addr != b.Probes[i].Addr {
					t.Errorf("%s stripped: probe %+v, with symbols %+v", arch, s.Probes[i], b.Probes[i])
				}
			}
		}
	})
}

// TestInspectLinking covers the ways to link that move things: position-independent, by the C linker, both, and
// stripped of symbols by strip(1).
func TestInspectLinking(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no C compiler")
	}
	toolchain := ""
	check := func(t *testing.T, b fixtures.Build, wantTLS int64, wantPIE, wantCgo bool) {
		t.Helper()
		exe := fixtures.Program(t, b)
		bin := inspectFile(t, exe)
		checkTLS(t, bin, wantTLS)
		checkProbes(t, exe, bin)
		if bin.PIE != wantPIE || bin.Cgo != wantCgo || bin.Stripped {
			t.Errorf("%v: PIE %v, cgo %v, stripped %v", b, bin.PIE, bin.Cgo, bin.Stripped)
		}
		stripped := fixtures.Strip(t, exe)
		s := inspectFile(t, stripped)
		checkTLS(t, s, wantTLS)
		checkProbes(t, stripped, s)
		if s.PIE != wantPIE || s.Cgo != wantCgo || !s.Stripped || s.LayoutSource != pstate.LayoutTable {
			t.Errorf("%v stripped: PIE %v, cgo %v, stripped %v, layout %q", b, s.PIE, s.Cgo, s.Stripped, s.LayoutSource)
		}
		if !sameVars(s, bin) {
			t.Errorf("%v stripped: %+v, with symbols %+v", b, s.Vars, bin.Vars)
		}
	}
	run := func(t *testing.T) {
		// 8 bytes for G and 20 for pad, rounded up to 32: G is at the beginning of the block.
		t.Run("pie", func(t *testing.T) {
			check(t, fixtures.Build{Toolchain: toolchain, Flags: []string{"-buildmode=pie"}}, -8, true, false)
		})
		t.Run("pie-arm64", func(t *testing.T) {
			check(t, fixtures.Build{Toolchain: toolchain, Arch: "arm64", Flags: []string{"-buildmode=pie"}}, 0, true,
				false)
		})
		t.Run("cgo", func(t *testing.T) {
			check(t, fixtures.Build{Toolchain: toolchain, Cgo: true, Source: "cgotarget"}, -32, false, true)
		})
		t.Run("cgo-pie", func(t *testing.T) {
			check(t, fixtures.Build{Toolchain: toolchain, Cgo: true, Source: "cgotarget",
				Flags: []string{"-buildmode=pie"}}, -32, true, true)
		})
		t.Run("external", func(t *testing.T) {
			check(t, fixtures.Build{Toolchain: toolchain, Cgo: true,
				Flags: []string{"-ldflags=-linkmode=external"}}, -8, false, true)
		})
		t.Run("cgo-arm64", func(t *testing.T) {
			fixtures.NeedCross(t)
			check(t, fixtures.Build{Toolchain: toolchain, Arch: "arm64", Cgo: true, Source: "cgotarget"}, 16, false,
				true)
		})
		t.Run("cgo-pie-arm64", func(t *testing.T) {
			fixtures.NeedCross(t)
			check(t, fixtures.Build{Toolchain: toolchain, Arch: "arm64", Cgo: true, Source: "cgotarget",
				Flags: []string{"-buildmode=pie"}}, 16, true, true)
		})
		// Without relaxation the slot's offset is in the global offset table, put there by the loader.
		t.Run("cgo-pie-got", func(t *testing.T) {
			check(t, fixtures.Build{Toolchain: toolchain, Cgo: true, Source: "cgotarget",
				Flags: []string{"-buildmode=pie", "-ldflags=-extldflags=-Wl,--no-relax"}}, -32, true, true)
		})
		t.Run("cgo-pie-got-arm64", func(t *testing.T) {
			fixtures.NeedCross(t)
			check(t, fixtures.Build{Toolchain: toolchain, Arch: "arm64", Cgo: true, Source: "cgotarget",
				Flags: []string{"-buildmode=pie", "-ldflags=-extldflags=-Wl,--no-relax"}}, 16, true, true)
		})
		t.Run("cgo-static", func(t *testing.T) {
			exe := fixtures.Program(t, fixtures.Build{Toolchain: toolchain, Cgo: true, Source: "cgotarget",
				Flags: []string{"-ldflags=-linkmode=external -extldflags=-static"}})
			if b := inspectFile(t, exe); !b.TLSGKnown {
				t.Error("the slot of G is not known")
			}
		})
	}
	if !fixtures.Full() {
		run(t)
		return
	}
	for _, toolchain = range fixtures.Toolchains {
		t.Run("go"+toolchain, run)
	}
}

// sameVars reports whether two binaries have the variables that a snapshot needs at the same addresses.
func sameVars(a, b *Binary) bool {
	x, y := &a.Vars, &b.Vars
	return x.AllP == y.AllP && x.AllM == y.AllM && x.Sched == y.Sched && x.GOMAXPROCS == y.GOMAXPROCS
}

func checkTLS(t *testing.T, b *Binary, want int64) {
	t.Helper()
	if b.Arch == "arm64" && !b.Cgo {
		if b.TLSGKnown || !b.GRegister {
			t.Errorf("arm64 without Cgo: slot known %v, register %v", b.TLSGKnown, b.GRegister)
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
		case s.Func == probes.WorldStarted:
			// Not at an entry, but at the call of wakep that ends a stop.
			if call := b.Arch == "amd64" && code[0] == 0xe8 || b.Arch == "arm64" && code[3]>>2 == 0x25; !call ||
				!s.Emulated {
				t.Errorf("%s: % x (%q, emulated %v)", s.Func, code[:5], s.Insn, s.Emulated)
			}
			if s.Ended == 0 {
				t.Errorf("%s: it was not found where the time is kept at which a stop ended", s.Func)
			}
		case s.Func == probes.Started: // see checkStarted
		case b.Arch == "amd64":
			in, err := x86asm.Decode(code[:16], 64)
			if err != nil || in.Op != x86asm.PUSH || in.Args[0] != x86asm.RBP || !s.Emulated || s.Insn != "PUSHQ BP" {
				t.Errorf("%s: %v (%q, emulated %v), error %v", s.Func, in, s.Insn, s.Emulated, err)
			}
		case b.Arch == "arm64":
			// The first instruction of the frame: a store of the link register, or for large frames the new stack
			// pointer in X20.
			in, err := arm64asm.Decode(code[:4])
			before, _ := arm64asm.Decode(data[s.FileOffset-4 : s.FileOffset])
			if err != nil || s.Emulated || !strings.HasPrefix(before.String(), "B LS,") {
				t.Errorf("%s: %v after %v, error %v", s.Func, in, before, err)
			}
		}
	}
	checkStarted(t, exe, b)
	for _, fn := range []string{probes.WorldStarted, probes.StopWorld, probes.StartWorld, probes.Started} {
		if !names[fn] {
			t.Errorf("no site for %s", fn)
		}
	}
}

// TestRefusals checks that what cannot be observed is refused for the right reason.
func TestRefusals(t *testing.T) {
	exe := fixtures.Program(t, fixtures.Build{})
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
	stripped, err := os.ReadFile(fixtures.Program(t, fixtures.Build{Flags: []string{"-ldflags=-s -w"}}))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/bin/sh")
	if err != nil {
		self = []byte("#!")
	}
	for name, c := range map[string]struct {
		data   []byte
		reason refusal.Reason
	}{
		"empty":        {nil, refusal.NotGo},
		"text":         {[]byte(strings.Repeat("not a program ", 20)), refusal.NotGo},
		"truncated":    {data[:4096], refusal.GoUnknown},
		"headers only": {data[:64], refusal.NotGo},
		"C":            {self, refusal.NotGo},
		"old":          {with("go1.18"), refusal.GoTooOld},
		"arm":          {setMachine(elf.EM_ARM), refusal.Arch},
		"riscv":        {setMachine(elf.EM_RISCV), refusal.Arch},
		// Its code is searched; without a function that tells where threads have their ids, in vain.
		"new, stripped": {
			bytes.ReplaceAll(bytes.ReplaceAll(stripped, []byte(version), []byte("go1.29"+version[6:])),
				[]byte("runtime.minit\x00"), []byte("runtime.m1nit\x00")),
			refusal.GoUnknown,
		},
	} {
		_, err := Inspect(bytes.NewReader(c.data))
		var refused *refusal.Error
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

// checkStarted demands a site for goroutines that start, at which the file holds an instruction that the kernel
// emulates.
func checkStarted(t *testing.T, exe string, b *Binary) {
	t.Helper()
	site, err := b.StartedProbe()
	if err != nil {
		t.Error(err)
		return
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	code := data[site.FileOffset:]
	switch b.Arch {
	case "amd64":
		if code[0] != 0x55 { // PUSHQ BP
			t.Errorf("execute: % x", code[:4])
		}
	case "arm64":
		in, err := arm64asm.Decode(code)
		if err != nil || arm64asm.GoSyntax(in, site.Addr, nil, nil) != site.Insn {
			t.Errorf("execute: %v instead of %s, error %v", in, site.Insn, err)
		}
	}
}

func TestStartedProbeRefused(t *testing.T) {
	b := &Binary{}
	if _, err := b.StartedProbe(); err == nil {
		t.Error("a program without the function has a site")
	}
	b.Probes = []probes.Site{{Func: probes.Started, Insn: "CMPQ SP, 0x10(R14)"}}
	if _, err := b.StartedProbe(); err == nil || !strings.Contains(err.Error(), "CMPQ") {
		t.Errorf("a site that is single-stepped is taken: %v", err)
	}
}
