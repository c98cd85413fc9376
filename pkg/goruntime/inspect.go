package goruntime

import (
	"errors"
	"fmt"
	"io"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/goruntime/codewalk"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
	"github.com/p-scope/p-scope/pkg/goruntime/probes"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Inspect reads an ELF file and says where the runtime's fields live. It reads only what it needs, a few MB of a large
// program, and keeps no reference to r. Every error is a [*refusal.Error].
func Inspect(r io.ReaderAt) (b *Binary, err error) {
	// debug/elf and debug/dwarf are hardened against broken input, but not proven to be. A hostile program must not
	// take the agent down.
	defer func() {
		if p := recover(); p != nil {
			b, err = nil, refusal.New(refusal.Malformed, fmt.Errorf("%v", p), "the program's file is malformed")
		}
	}()
	b, err = inspect(r)
	if err == nil {
		return b, nil
	}
	var refused *refusal.Error
	if !errors.As(err, &refused) {
		err = refusal.New(refusal.Malformed, err, "the program's file is malformed")
	}
	return nil, err
}

func inspect(r io.ReaderAt) (*Binary, error) {
	f, err := binary.Open(r)
	if err != nil {
		return nil, err
	}
	info, err := f.BuildInfo()
	if err != nil {
		return nil, err
	}
	b := &Binary{
		GoVersion: info.GoVersion,
		Module:    info.Main.Path,
		Arch:      f.Arch,
		PIE:       f.PIE(),
		BuildID:   f.BuildID(),
		Text:      f.Text(),
		Entry:     f.Entry(),
		Segments:  f.Segments(),
		Checks:    f.Checks(),
	}
	version, ok := binary.ParseVersion(b.GoVersion)
	switch {
	case !ok && f.Scrambled():
		return nil, refusal.New(refusal.Obfuscated, nil, "the program was obfuscated, as garble does it: its Go "+
			"version is "+
			"removed and its table of functions scrambled, by which the runtime's structures are found")
	case !ok && info.GoVersion != "":
		return nil, refusal.New(refusal.GoUnknown, nil, "the program names an unknown Go version, %.40q", b.GoVersion)
	case ok && version.Minor < binary.OldestMinor:
		return nil, refusal.New(refusal.GoTooOld, nil, "the program was built with %.40s; Go 1.%d or later is needed",
			b.GoVersion, binary.OldestMinor)
	}

	found, err := b.findLayout(f, version)
	if err != nil {
		return nil, err
	}
	syms, err := b.locate(f, found)
	if err != nil {
		return nil, err
	}
	b.CurrentG = codewalk.FindG(f, b.Cgo, syms)
	b.Probes = probes.Find(f, syms)
	if s, ok := syms[gcWorkerStarter]; ok && f.Executable(s.Addr) {
		b.GCWorkers = [2]uint64{s.Addr, s.Addr + s.Size}
	}
	return b, nil
}

// gcWorkerStarter has the go statement that starts the GC's mark workers (runtime/mgc.go). The goroutine that runs it
// is the creator of a worker. The function that the worker runs is a closure since Go 1.23, and says less.
const gcWorkerStarter = "runtime.gcBgMarkStartWorkers"

// findLayout takes the layout from DWARF, else from the table, else from the program's code: found is then what the
// search has found.
func (b *Binary) findLayout(f *binary.File, version binary.Version) (found *codewalk.Found, err error) {
	l, dwarfErr := layout.FromDWARF(f)
	if dwarfErr == nil {
		// The debugging information is right. A table, or a search, could only be wrong where it differs.
		if missing := l.Missing(); missing != "" {
			return nil, refusal.New(refusal.GoUnknown, nil,
				"the program's debugging information describes a modified runtime, without %s", missing)
		}
		b.Layout, b.LayoutSource = *l, pstate.LayoutDWARF
		return nil, nil
	}
	l, problem := (*layout.Layout)(nil), "the program does not say which Go it was built with"
	if b.GoVersion != "" {
		l, problem = layout.FromTable(version, f.Arch)
	}
	if l != nil {
		b.Layout, b.LayoutSource = *l, pstate.LayoutTable
		return nil, nil
	}
	found, err = codewalk.Search(f)
	if err != nil {
		return nil, refusal.New(refusal.GoUnknown, err,
			"%s, it has no debugging information to learn the layout from (%v), and the search of its code failed",
			problem, dwarfErr)
	}
	b.Layout, b.LayoutSource = found.Layout, pstate.LayoutSearch
	return found, nil
}

// locate finds variables and functions: by the symbol table, or in a stripped program by the table of functions and by
// what the functions refer to.
func (b *Binary) locate(f *binary.File, found *codewalk.Found) (map[string]binary.Symbol, error) {
	vars := b.Vars.ByName()
	wanted := map[string]bool{gcWorkerStarter: true}
	for name := range vars {
		wanted[name] = true
	}
	for _, list := range [][]string{probes.Symbols(), codewalk.GSymbols(), codewalk.VariableFuncs()} {
		for _, name := range list {
			wanted[name] = true
		}
	}
	syms, err := f.Symbols(wanted)
	if err != nil {
		b.Stripped = true
		return b.locateStripped(f, found, wanted)
	}
	for name, dst := range vars {
		if s, ok := syms[name]; ok && f.Writable(s.Addr, max(s.Size, 1)) {
			*dst = s.Addr
		}
	}
	if missing := b.Vars.Missing(); missing != "" {
		return nil, refusal.New(refusal.NoVariables, nil, "the program's symbol table lacks %s", missing)
	}
	if found != nil {
		if differs := found.Contradicts(&b.Vars, syms["runtime.sched"].Size); differs != "" {
			return nil, refusal.New(refusal.GoUnknown, nil, "the program's code and its symbol table disagree on "+
				"where "+
				"runtime.%s lies: it was built with a modified runtime", differs)
		}
		b.Vars.Sched = found.Vars.Sched // from which the layout's offsets count
	}
	b.Cgo = f.ByteAt(b.Vars.IsCgo) == 1
	return syms, nil
}

// locateStripped does without a symbol table.
func (b *Binary) locateStripped(f *binary.File, found *codewalk.Found, wanted map[string]bool) (
	map[string]binary.Symbol, error,
) {
	table, err := binary.OpenFuncTable(f)
	if err != nil {
		return nil, refusal.New(refusal.NoVariables, err,
			"the program is stripped and its table of functions cannot be found")
	}
	funcs, err := table.Lookup(wanted)
	if err != nil {
		return nil, refusal.New(refusal.NoVariables, err, "the program is stripped and its table of functions is "+
			"broken")
	}
	if found != nil {
		b.Vars = found.Vars
	} else {
		codewalk.FindVariables(f, funcs, &b.Vars, &b.Layout)
	}
	if missing := b.Vars.Missing(); missing != "" {
		return nil, refusal.New(refusal.NoVariables, nil,
			"the program is stripped and %s could not be located by the functions that use it", missing)
	}
	// runtime/cgo's entry point from C (runtime/cgo/asm_amd64.s) is linked in exactly when that package is.
	b.Cgo = table.HasFunc("crosscall2")
	return funcs, nil
}
