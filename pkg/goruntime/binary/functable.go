package binary

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
)

// FuncTable is the Go linker's table of functions. The runtime needs it for tracebacks, so it survives stripping
// (runtime/symtab.go, pcHeader and moduledata; cmd/link/internal/ld/pcln.go). Its format is the same since Go 1.20,
// except that Go 1.26 dropped the start of the text from the header.
type FuncTable struct {
	file *File
	addr uint64 // link-time address of the table's header
	text uint64 // address that function addresses count from

	nfunc     uint64
	funcnames uint64 // offset of the names in the table
	cutab     uint64 // offset of what follows the names
	funcs     uint64 // offset of the sorted list of functions
}

const (
	pcMagic    = 0xfffffff1 // internal/abi, Go120PCLnTabMagic; Go 1.27 has it still
	maxFuncs   = 1 << 24
	maxPcTable = 1 << 32
	// what looks like a table is tried so many times: for each, all of the program's data is looked through
	maxTables = 8
)

// OpenFuncTable finds the table, and the module data that points at it.
func OpenFuncTable(f *File) (*FuncTable, error) {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if s := f.section(name); s != nil {
			if t := f.funcTableAt(s.Addr); t != nil {
				if err := t.findText(); err == nil {
					return t, nil
				}
			}
		}
	}
	var found *FuncTable
	tried := 0
	f.scan(func(p *elf.Prog) bool { return true }, func(addr uint64, word uint64) bool {
		if uint32(word) != pcMagic {
			return true
		}
		if t := f.funcTableAt(addr); t != nil {
			if t.findText() == nil {
				found = t
				return false
			}
			tried++
		}
		return tried < maxTables
	})
	if found == nil {
		return nil, errors.New("there is none in the format of Go 1.20 to 1.27")
	}
	return found, nil
}

// funcTableAt reads the header at addr; nil if there is none.
func (f *File) funcTableAt(addr uint64) *FuncTable {
	var h [72]byte
	if f.ReadFull(addr, h[:]) != nil || f.le.Uint32(h[:]) != pcMagic {
		return nil
	}
	minLC := byte(1)
	if f.Arch == "arm64" {
		minLC = 4
	}
	if h[4] != 0 || h[5] != 0 || h[6] != minLC || h[7] != 8 {
		return nil
	}
	word := func(i int) uint64 { return f.le.Uint64(h[8*i:]) }
	t := &FuncTable{file: f, addr: addr, nfunc: word(1), funcnames: word(4), cutab: word(5), funcs: word(8)}
	if t.nfunc == 0 || t.nfunc > maxFuncs || t.funcnames >= t.cutab || t.cutab > maxPcTable || t.funcs > maxPcTable {
		return nil
	}
	if _, ok := f.FileOffset(addr + t.funcs + t.nfunc*8 + 3); !ok {
		return nil
	}
	return t
}

// findText takes the start of the text from the module data, which begins with pointers to the table and to the names
// in it (runtime/symtab.go, moduledata). Its first 26 words are laid out alike in all versions.
func (t *FuncTable) findText() error {
	const textAt = 22 * 8
	writable := func(p *elf.Prog) bool { return p.Flags&elf.PF_W != 0 }
	var module uint64
	t.file.scan(writable, func(addr, word uint64) bool {
		if word != t.addr {
			return true
		}
		if names, ok := t.file.pointer(addr + 8); ok && names == t.addr+t.funcnames {
			module = addr
			return false
		}
		return true
	})
	if module == 0 {
		// A C linker leaves the pointers of a position-independent program to its relocations.
		t.file.relocations(func(r relocation) bool {
			if r.relative(t.file.Arch) && uint64(r.addend) == t.addr {
				if names, ok := t.file.pointer(r.offset + 8); ok && names == t.addr+t.funcnames {
					module = r.offset
					return false
				}
			}
			return true
		})
	}
	if module == 0 {
		return errors.New("no module data")
	}
	text, ok := t.file.pointer(module + textAt)
	if !ok || !t.file.Executable(text) {
		return errors.New("the module data does not name the program's text")
	}
	t.text = text
	return nil
}

// Lookup finds functions by name. Names are as in tracebacks, without the ".abi0" of the symbol table.
func (t *FuncTable) Lookup(wanted map[string]bool) (map[string]Symbol, error) {
	names, err := t.nameOffsets(wanted)
	if err != nil {
		return nil, err
	}
	found := make(map[string]Symbol, len(names))
	unique := make(map[string]bool, len(names))
	for _, name := range names {
		unique[name] = true
	}
	// The runtime comes first in what Go links by itself, so that it is rare to read the list to its end.
	err = t.walk(names, func(name string, s Symbol) bool {
		if _, dup := found[name]; !dup {
			found[name] = s
		}
		return len(found) < len(unique)
	})
	return found, err
}

// Each calls fn for every function of the names wanted, until it returns false. Two functions may have one name: a
// bridge between calling conventions has the name of the function that it leads to.
func (t *FuncTable) Each(wanted map[string]bool, fn func(name string, s Symbol) bool) error {
	names, err := t.nameOffsets(wanted)
	if err != nil {
		return err
	}
	return t.walk(names, fn)
}

// walk goes through the list of functions.
func (t *FuncTable) walk(names map[uint32]string, fn func(name string, s Symbol) bool) error {
	// The list has pairs of 32-bit offsets, of the function from the text and of its record from the list; a record
	// begins with the former again and the offset of its name (runtime/symtab.go, functab and runtime/runtime2.go,
	// _func). Records lie in the order of the list.
	list := newWindow(t.file, t.addr+t.funcs)
	records := newWindow(t.file, t.addr+t.funcs)
	for i := uint64(0); i < t.nfunc; i++ {
		entry, err := list.bytes(i*8, 12)
		if err != nil {
			return err
		}
		start, record, end := t.file.le.Uint32(entry), t.file.le.Uint32(entry[4:]), t.file.le.Uint32(entry[8:])
		head, err := records.bytes(uint64(record), 8)
		if err != nil {
			return err
		}
		name, ok := names[t.file.le.Uint32(head[4:])]
		if !ok || t.file.le.Uint32(head) != start || end < start {
			continue
		}
		if !fn(name, Symbol{Addr: t.text + uint64(start), Size: uint64(end - start), Type: elf.STT_FUNC}) {
			return nil
		}
	}
	return nil
}

// nameOffsets finds the wanted names in the table of names.
func (t *FuncTable) nameOffsets(wanted map[string]bool) (map[uint32]string, error) {
	off, ok := t.file.FileOffset(t.addr + t.funcnames)
	if !ok {
		return nil, errBounds
	}
	return stringOffsets(io.NewSectionReader(t.file.r, int64(off), int64(t.cutab-t.funcnames)), wanted)
}

// HasFunc reports whether the table has a function of that name, runtime's or not.
func (t *FuncTable) HasFunc(name string) bool {
	off, ok := t.file.FileOffset(t.addr + t.funcnames)
	if !ok {
		return false
	}
	return containsName(io.NewSectionReader(t.file.r, int64(off), int64(t.cutab-t.funcnames)), name)
}

// containsName reports whether a table of names, which end with a zero each, has one.
func containsName(r io.Reader, name string) bool {
	pattern := append([]byte{0}, append([]byte(name), 0)...)
	buf := make([]byte, 256<<10)
	for keep := 0; ; {
		n, err := io.ReadFull(r, buf[keep:])
		b := buf[:keep+n]
		if bytes.Contains(b, pattern) {
			return true
		}
		if err != nil {
			return false
		}
		keep = copy(buf, b[len(b)-len(pattern):])
	}
}
