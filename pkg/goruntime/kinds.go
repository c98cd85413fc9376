package goruntime

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"io"
	"slices"
	"strings"
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
		if hasGoNote(note[:n]) {
			return true
		}
	}
	return false
}

// readVersion finds which Go a program was built with. info.GoVersion is empty for a Go program that does not say so.
// The error is [ErrNotGo] for one that is not Go.
func readVersion(im *image) (info *buildinfo.BuildInfo, err error) {
	r := im.r
	evident := showsGo(im.f, r)
	// Without sections the information is looked for in the whole of the program's data; with them, only a program that
	// has the section, or was made to lose it, is worth that.
	if evident || !im.hasSections() {
		if info, err = buildinfo.Read(r); err == nil {
			return info, nil
		}
	}
	if packed(r) {
		return nil, refuse(
			ReasonPacked,
			nil,
			"the program is packed with UPX, which hides what is inside: whether that is Go is not known",
		)
	}
	if !evident && !im.hasSections() {
		_, tableErr := openFuncTable(im)
		evident = tableErr == nil
	}
	if !evident {
		if other := im.otherGo(); other != "" {
			return nil, refuse(
				ReasonOtherGo,
				nil,
				"the program was built with %s, whose runtime is another one than Go's own and has no Ps that could be read",
				other,
			)
		}
		return nil, ErrNotGo
	}
	return &buildinfo.BuildInfo{GoVersion: im.versionVariable()}, nil
}

func (im *image) hasSections() bool { return len(im.f.Sections) > 1 }

// packed says whether a program was packed with UPX, whose loader leaves its name behind the program headers
// (src/p_lx_elf.cpp of UPX, l_info).
func packed(r io.ReaderAt) bool {
	var head [4096]byte
	n, _ := r.ReadAt(head[:], 0)
	return bytes.Contains(head[:n], []byte("UPX!"))
}

// versionVariable reads runtime.buildVersion, with which the linker names the release (cmd/link/internal/ld/main.go);
// empty if it is not found.
func (im *image) versionVariable() string {
	const name = "runtime.buildVersion"
	syms, err := im.symbols(map[string]bool{name: true})
	if err != nil {
		return ""
	}
	s, ok := syms[name]
	if !ok {
		return ""
	}
	text, ok := im.pointer(s.value)
	var size [8]byte
	if !ok || im.readFullVA(s.value+8, size[:]) != nil {
		return ""
	}
	b := make([]byte, min(im.le.Uint64(size[:]), 256))
	if im.readFullVA(text, b) != nil || !strings.Contains(string(b), "go1.") {
		return ""
	}
	return string(b)
}

// scrambled says whether the table of functions is there but not in Go's format: garble changes its first word and
// encrypts what follows.
func (im *image) scrambled() bool {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if s := im.section(name); s != nil {
			var h [4]byte
			return im.readFullVA(s.Addr, h[:]) == nil && im.le.Uint32(h[:]) != pcMagic
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
func (im *image) otherGo() string {
	if libs, err := im.f.ImportedLibraries(); err == nil {
		for _, lib := range libs {
			if strings.HasPrefix(lib, "libgo.so.") {
				return "gccgo"
			}
		}
	}
	if im.section(".go_export") != nil {
		// what a package exports, kept even in stripped programs that have the runtime in them (gcc/go/gofrontend/export.cc)
		return "gccgo"
	}
	names := im.section(".strtab")
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

// notGoAfterAll turns the refusal of a file that cannot be read as a program into ErrNotGo unless something in it is of
// Go. Nobody asks why a C program for another architecture is not observed.
func notGoAfterAll(r io.ReaderAt, err error) error {
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Reason != ReasonArch && refused.Reason != ReasonMalformed {
		return err
	}
	if f, r, elfErr := openELF(r); elfErr == nil && showsGo(f, r) {
		return err
	}
	return refuse(ReasonNotGo, err, "%s", ErrNotGo.Detail)
}

// hasGoNote says whether among notes is one of the type and owner of a Go build ID (cmd/internal/buildid,
// ELF_NOTE_GOBUILDID_TAG).
func hasGoNote(notes []byte) bool { return bytes.Contains(notes, []byte("\x04\x00\x00\x00Go\x00\x00")) }
