package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// variant is one way to build a program.
type variant struct {
	name  string
	flags []string
	cgo   bool
	twin  string // the variant with the same flags that keeps its debugging information; empty where it keeps it itself
}

var variants = []variant{
	{name: "plain"},
	{name: "stripped", flags: []string{"-ldflags=-s -w"}, twin: "plain"},
	{name: "trimpath", flags: []string{"-trimpath"}},
	{name: "pie", flags: []string{"-buildmode=pie"}},
	{name: "pie-stripped", flags: []string{"-buildmode=pie", "-ldflags=-s -w"}, twin: "pie"},
	{name: "cgo", cgo: true},
	{name: "cgo-stripped", cgo: true, flags: []string{"-ldflags=-s -w"}, twin: "cgo"},
	{name: "cgo-pie", cgo: true, flags: []string{"-buildmode=pie"}},
	{name: "cgo-static", cgo: true, flags: []string{"-ldflags=-linkmode=external -extldflags=-static"}},
	{name: "external", cgo: true, flags: []string{"-ldflags=-linkmode=external"}},
}

func variantNamed(name string) (variant, error) {
	for _, v := range variants {
		if v.name == name {
			return v, nil
		}
	}
	return variant{}, fmt.Errorf("no variant is called %q", name)
}

// crossCC compiles C for arm64 where Debian's package gcc-aarch64-linux-gnu is installed.
const crossCC = "aarch64-linux-gnu-gcc"

// build makes one program and gives its path. What was built in this folder before is taken as it is.
func build(dir, toolchain, arch string, v variant) (string, error) {
	exe := filepath.Join(dir, fmt.Sprintf("matrix-%s-%s-%s", toolchain, arch, v.name))
	if _, err := os.Stat(exe); err == nil {
		return exe, nil
	}
	cmd := exec.Command("go", append(append([]string{"build", "-buildvcs=false", "-o", exe}, v.flags...), ".")...)
	cmd.Dir = filepath.Join("bench", "matrix", "program")
	cgo := "CGO_ENABLED=0"
	if v.cgo {
		cgo = "CGO_ENABLED=1"
	}
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=go"+toolchain, "GOOS=linux", "GOARCH="+arch, "GOFLAGS=", "GOWORK=off",
		"GOEXPERIMENT=", cgo)
	if v.cgo && arch == "arm64" {
		cmd.Env = append(cmd.Env, "CC="+crossCC)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build with go%s for %s, %s: %w\n%s", toolchain, arch, v.name, err, out)
	}
	return exe, nil
}

func inspect(path string) (*goruntime.Binary, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return goruntime.Inspect(f)
}

// hideSymbols is a program as strip(1) leaves it: nothing moves, but symbols and debugging information can't be read.
func hideSymbols(program []byte) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(program)
	table := binary.LittleEndian.Uint64(out[40:])
	for i, s := range f.Sections {
		if s.Name == ".symtab" || strings.HasPrefix(s.Name, ".debug_") {
			binary.LittleEndian.PutUint32(out[table+uint64(i)*64+4:], uint32(elf.SHT_NOBITS))
		}
	}
	return out, nil
}

// checkFile compares what the program's file says with and without its symbols and debugging information. twin is the
// path of a program built with the same flags that has them; it is the program itself where that has kept them.
func checkFile(path, twin string) (b *goruntime.Binary, complaints []string, err error) {
	say := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	if b, err = inspect(path); err != nil {
		return nil, nil, err
	}
	full, err := inspect(twin)
	if err != nil {
		return nil, nil, err
	}
	if full.LayoutSource != pstate.LayoutDWARF {
		say("the twin's layout comes from %q", full.LayoutSource)
	}
	if b.Layout != full.Layout {
		say("the layout is not that of the debugging information")
	}
	if !b.TLSGKnown && !b.GRegister {
		say("where a thread keeps its G is not known")
	}
	if path != twin {
		if b.LayoutSource != pstate.LayoutTable {
			say("the layout of a stripped program comes from %q", b.LayoutSource)
		}
		if b.TLSG != full.TLSG {
			say("G is at %d from the thread pointer, with debugging information at %d", b.TLSG, full.TLSG)
		}
		return b, complaints, nil
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	if program, err = hideSymbols(program); err != nil {
		return nil, nil, err
	}
	bare, err := goruntime.Inspect(bytes.NewReader(program))
	if err != nil {
		say("without symbols it is refused: %v", err)
		return b, complaints, nil
	}
	if bare.Layout != full.Layout || bare.LayoutSource != pstate.LayoutTable {
		say("without symbols it has another layout, from %q", bare.LayoutSource)
	}
	if bare.TLSG != full.TLSG || bare.TLSGKnown != full.TLSGKnown || bare.GRegister != full.GRegister {
		say("without symbols G is at %d from the thread pointer, with them at %d", bare.TLSG, full.TLSG)
	}
	if x, y := bare.Vars, full.Vars; x.AllP != y.AllP || x.AllM != y.AllM || x.Sched != y.Sched ||
		x.GOMAXPROCS != y.GOMAXPROCS {
		say("without symbols the runtime's variables are elsewhere: %+v, with them %+v", x, y)
	}
	complaints = append(complaints, checkSearch(program, full)...)
	for _, site := range full.Probes {
		if s, ok := bare.Probe(site.Func); !ok || s.FileOffset != site.FileOffset {
			say("without symbols the place to probe %s is not the same", site.Func)
		}
	}
	return b, complaints, nil
}

// checkSearch lets the program, which has no symbols, say that it was built with a Go that nobody knows: what is then
// found in its code must be what its debugging information says.
func checkSearch(program []byte, full *goruntime.Binary) (complaints []string) {
	say := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	newer := bytes.ReplaceAll(program, []byte(full.GoVersion), []byte("go1.99"+full.GoVersion[len("go1.2x"):]))
	b, err := goruntime.Inspect(bytes.NewReader(newer))
	if err != nil {
		say("as an unknown Go it is refused: %v", err)
		return complaints
	}
	if b.LayoutSource != pstate.LayoutSearch {
		say("as an unknown Go its layout comes from %q", b.LayoutSource)
	}
	if x, y := b.Vars, full.Vars; x.AllP != y.AllP || x.AllM != y.AllM || x.GOMAXPROCS != y.GOMAXPROCS {
		say("as an unknown Go its variables are elsewhere: %+v, with symbols %+v", x, y)
	}
	found, truth := reflect.ValueOf(b.Layout), reflect.ValueOf(full.Layout)
	for i := range found.NumField() {
		typ := found.Type().Field(i).Name
		shift := int64(0) // the scheduler's fields count from the first that was found
		if typ == "Sched" {
			shift = int64(b.Vars.Sched - full.Vars.Sched)
		}
		for j := range found.Field(i).NumField() {
			name := found.Field(i).Type().Field(j).Name
			got, want := found.Field(i).Field(j).Int(), truth.Field(i).Field(j).Int()
			if name != "Size" && got != int64(layout.Absent) && got+shift != want {
				say("as an unknown Go its %s.%s is found at %d, and lies at %d", typ, name, got+shift, want)
			}
		}
	}
	return complaints
}
