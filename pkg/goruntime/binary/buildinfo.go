package binary

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// What a program is that lacks something every ordinary Go program has. Programs that are not Go at all make up nearly
// all of a host: each step costs them a few small reads.

// goSections are the sections that only Go's own linker makes (cmd/link/internal/ld/data.go), each of which survives
// stripping.
var goSections = []string{".go.buildinfo", ".gopclntab", ".data.rel.ro.gopclntab", ".note.go.buildid"}

// showsGo says whether something in the file is of Go's own linker, build information aside: a section, or the note
// with its build ID.
func showsGo(f *elf.File, r io.ReaderAt) bool {
	for _, s := range f.Sections {
		if slices.Contains(goSections, s.Name) {
			return true
		}
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz < 16 || p.Off > 1<<62 {
			continue
		}
		note := make([]byte, min(p.Filesz, 4096))
		n, _ := r.ReadAt(note, int64(p.Off))
		if HasGoNote(note[:n]) {
			return true
		}
	}
	return false
}

// BuildInfo reads which Go built the program, and from which module. GoVersion is empty for a Go program that does not
// name its version. The error is [refusal.ErrNotGo] for a program that is not Go.
func (f *File) BuildInfo() (info *buildinfo.BuildInfo, err error) {
	r := f.r
	evident := showsGo(f.elf, r)
	// Without sections the information is looked for in the whole of the program's data; with them, only a program that
	// has the section, or was made to lose it, is worth that.
	if evident || !f.hasSections() {
		if info, err = buildinfo.Read(r); err == nil {
			return info, nil
		}
	}
	if packed(r) {
		return nil, refusal.New(
			refusal.Packed,
			nil,
			"the program is packed with UPX, which hides what is inside: whether that is Go is not known",
		)
	}
	if !evident && !f.hasSections() {
		_, tableErr := OpenFuncTable(f)
		evident = tableErr == nil
	}
	if !evident {
		if other := f.otherGo(); other != "" {
			return nil, refusal.New(
				refusal.OtherGo,
				nil,
				"the program was built with %s, whose runtime is another one than Go's own and has no Ps that could "+
					"be read",
				other,
			)
		}
		return nil, refusal.ErrNotGo
	}
	return &buildinfo.BuildInfo{GoVersion: f.versionVariable()}, nil
}

func (f *File) hasSections() bool { return len(f.elf.Sections) > 1 }

// packed says whether a program was packed with UPX, whose loader leaves its name behind the program headers
// (src/p_lx_elf.cpp of UPX, l_info).
func packed(r io.ReaderAt) bool {
	var head [4096]byte
	n, _ := r.ReadAt(head[:], 0)
	return bytes.Contains(head[:n], []byte("UPX!"))
}

// versionVariable reads runtime.buildVersion, with which the linker names the release (cmd/link/internal/ld/main.go);
// empty if it is not found.
func (f *File) versionVariable() string {
	const name = "runtime.buildVersion"
	syms, err := f.Symbols(map[string]bool{name: true})
	if err != nil {
		return ""
	}
	s, ok := syms[name]
	if !ok {
		return ""
	}
	text, ok := f.pointer(s.Addr)
	var size [8]byte
	if !ok || f.ReadFull(s.Addr+8, size[:]) != nil {
		return ""
	}
	b := make([]byte, min(f.le.Uint64(size[:]), 256))
	if f.ReadFull(text, b) != nil || !strings.Contains(string(b), "go1.") {
		return ""
	}
	return string(b)
}

// Scrambled says whether the table of functions is there but not in Go's format: garble changes its first word and
// encrypts what follows.
func (f *File) Scrambled() bool {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if s := f.section(name); s != nil {
			var h [4]byte
			return f.ReadFull(s.Addr, h[:]) == nil && f.le.Uint32(h[:]) != pcMagic
		}
	}
	return false
}

// Symbols that every program of gccgo (libgo/runtime/go-main.c) and of TinyGo with its usual scheduler
// (src/internal/task) has.
const (
	gccgoSymbol  = "__go_init_main"
	tinyGoSymbol = "tinygo_startTask"
)

// maxOtherSymbols bounds the names that are looked through for symbols of other Go compilers.
const maxOtherSymbols = 64 << 20

// otherGo names the other Go compiler that a program was built with; empty: none is known.
func (f *File) otherGo() string {
	if libs, err := f.elf.ImportedLibraries(); err == nil {
		for _, lib := range libs {
			if strings.HasPrefix(lib, "libgo.so.") {
				return "gccgo"
			}
		}
	}
	if f.section(".go_export") != nil {
		// what a package exports, kept even in stripped programs that have the runtime in them
		// (gcc/go/gofrontend/export.cc)
		return "gccgo"
	}
	names := f.section(".strtab")
	if names == nil || names.FileSize > maxOtherSymbols {
		return ""
	}
	for _, other := range []struct{ name, symbol string }{{"gccgo", gccgoSymbol}, {"TinyGo", tinyGoSymbol}} {
		if containsName(io.NewSectionReader(names, 0, int64(names.FileSize)), other.symbol) {
			return other.name
		}
	}
	return ""
}

// notGoAfterAll turns the refusal of a file that cannot be read as a program into [refusal.ErrNotGo], unless something
// in the file is of Go. Nobody asks why a C program for another architecture is not observed.
func notGoAfterAll(r io.ReaderAt, err error) error {
	var refused *refusal.Error
	if !errors.As(err, &refused) || refused.Reason != refusal.Arch && refused.Reason != refusal.Malformed {
		return err
	}
	if f, r, elfErr := openELF(r); elfErr == nil && showsGo(f, r) {
		return err
	}
	return refusal.New(refusal.NotGo, err, "%s", refusal.ErrNotGo.Detail)
}
