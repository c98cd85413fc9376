package goruntime

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
)

// funcTable is the Go linker's table of functions, which the runtime needs for tracebacks and which therefore survives stripping
// (runtime/symtab.go, pcHeader and moduledata; cmd/link/internal/ld/pcln.go). Its format has been the same since Go 1.20, but for the start of the
// text, which Go 1.26 dropped from the header.
type funcTable struct {
	im   *image
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
	maxTables  = 8 // what looks like a table is tried so many times: for each, all of the program's data is looked through
)

// openFuncTable finds the table, and the module data that points at it.
func openFuncTable(im *image) (*funcTable, error) {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if s := im.section(name); s != nil {
			if t := im.funcTableAt(s.Addr); t != nil {
				if err := t.findText(); err == nil {
					return t, nil
				}
			}
		}
	}
	var found *funcTable
	tried := 0
	im.scan(func(p *elf.Prog) bool { return true }, func(addr uint64, word uint64) bool {
		if uint32(word) != pcMagic {
			return true
		}
		if t := im.funcTableAt(addr); t != nil {
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

// scan calls fn for every aligned word of the file's contents in the loadable segments chosen, until it returns false.
func (im *image) scan(choose func(*elf.Prog) bool, fn func(addr, word uint64) bool) {
	buf := make([]byte, 64<<10)
	for _, p := range im.f.Progs {
		if p.Type != elf.PT_LOAD || !choose(p) {
			continue
		}
		skip := -p.Vaddr & 7
		for pos := skip; pos < p.Filesz; {
			n, err := im.readVA(p.Vaddr+pos, buf)
			n &^= 7
			for i := 0; i < n; i += 8 {
				if word := im.le.Uint64(buf[i:]); word != 0 && !fn(p.Vaddr+pos+uint64(i), word) {
					return
				}
			}
			if err != nil || n == 0 {
				break
			}
			pos += uint64(n)
		}
	}
}

// funcTableAt reads the header at addr; nil if there is none.
func (im *image) funcTableAt(addr uint64) *funcTable {
	var h [72]byte
	if im.readFullVA(addr, h[:]) != nil || im.le.Uint32(h[:]) != pcMagic {
		return nil
	}
	minLC := byte(1)
	if im.arch == "arm64" {
		minLC = 4
	}
	if h[4] != 0 || h[5] != 0 || h[6] != minLC || h[7] != 8 {
		return nil
	}
	word := func(i int) uint64 { return im.le.Uint64(h[8*i:]) }
	t := &funcTable{im: im, addr: addr, nfunc: word(1), funcnames: word(4), cutab: word(5), funcs: word(8)}
	if t.nfunc == 0 || t.nfunc > maxFuncs || t.funcnames >= t.cutab || t.cutab > maxPcTable || t.funcs > maxPcTable {
		return nil
	}
	if _, ok := im.fileOffset(addr + t.funcs + t.nfunc*8 + 3); !ok {
		return nil
	}
	return t
}

// findText takes the start of the text from the module data, which begins with pointers to the table and to the names in it
// (runtime/symtab.go, moduledata). Its first 26 words are laid out alike in all versions.
func (t *funcTable) findText() error {
	const textAt = 22 * 8
	writable := func(p *elf.Prog) bool { return p.Flags&elf.PF_W != 0 }
	var module uint64
	t.im.scan(writable, func(addr, word uint64) bool {
		if word != t.addr {
			return true
		}
		if names, ok := t.im.pointer(addr + 8); ok && names == t.addr+t.funcnames {
			module = addr
			return false
		}
		return true
	})
	if module == 0 {
		// A C linker leaves the pointers of a position-independent program to its relocations.
		t.im.relocations(func(r relocation) bool {
			if r.relative(t.im.arch) && uint64(r.addend) == t.addr {
				if names, ok := t.im.pointer(r.offset + 8); ok && names == t.addr+t.funcnames {
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
	text, ok := t.im.pointer(module + textAt)
	if !ok || !t.im.executable(text) {
		return errors.New("the module data does not name the program's text")
	}
	t.text = text
	return nil
}

// lookup finds functions by name. Names are as in tracebacks, without the ".abi0" of the symbol table.
func (t *funcTable) lookup(wanted map[string]bool) (map[string]symbol, error) {
	names, err := t.nameOffsets(wanted)
	if err != nil {
		return nil, err
	}
	found := make(map[string]symbol, len(names))
	unique := make(map[string]bool, len(names))
	for _, name := range names {
		unique[name] = true
	}
	// The runtime comes first in what Go links by itself, so that it is rare to read the list to its end.
	err = t.walk(names, func(name string, s symbol) bool {
		if _, dup := found[name]; !dup {
			found[name] = s
		}
		return len(found) < len(unique)
	})
	return found, err
}

// each calls fn for every function of the names wanted, until it returns false. One name may have two: a bridge between calling conventions has the name of what it
// leads to.
func (t *funcTable) each(wanted map[string]bool, fn func(name string, s symbol) bool) error {
	names, err := t.nameOffsets(wanted)
	if err != nil {
		return err
	}
	return t.walk(names, fn)
}

// walk goes through the list of functions.
func (t *funcTable) walk(names map[uint32]string, fn func(name string, s symbol) bool) error {
	// The list has pairs of 32-bit offsets, of the function from the text and of its record from the list; a record begins with the former again
	// and the offset of its name (runtime/symtab.go, functab and runtime/runtime2.go, _func). Records lie in the order of the list.
	list := newWindow(t.im, t.addr+t.funcs)
	records := newWindow(t.im, t.addr+t.funcs)
	for i := uint64(0); i < t.nfunc; i++ {
		entry, err := list.bytes(i*8, 12)
		if err != nil {
			return err
		}
		start, record, end := t.im.le.Uint32(entry), t.im.le.Uint32(entry[4:]), t.im.le.Uint32(entry[8:])
		head, err := records.bytes(uint64(record), 8)
		if err != nil {
			return err
		}
		name, ok := names[t.im.le.Uint32(head[4:])]
		if !ok || t.im.le.Uint32(head) != start || end < start {
			continue
		}
		if !fn(name, symbol{value: t.text + uint64(start), size: uint64(end - start), typ: elf.STT_FUNC}) {
			return nil
		}
	}
	return nil
}

// nameOffsets finds the wanted names in the table of names.
func (t *funcTable) nameOffsets(wanted map[string]bool) (map[uint32]string, error) {
	off, ok := t.im.fileOffset(t.addr + t.funcnames)
	if !ok {
		return nil, errBounds
	}
	return stringOffsets(io.NewSectionReader(t.im.r, int64(off), int64(t.cutab-t.funcnames)), wanted)
}

// window reads forward through a table with few reads of the file.
type window struct {
	im   *image
	base uint64
	buf  []byte
	from uint64 // offset from base of buf[0]
	n    uint64
}

func newWindow(im *image, base uint64) *window {
	return &window{im: im, base: base, buf: make([]byte, 64<<10)}
}

// bytes gives size bytes at an offset from the window's base; they are valid until the next call.
func (w *window) bytes(off uint64, size int) ([]byte, error) {
	if off < w.from || off-w.from+uint64(size) > w.n {
		if off > maxPcTable {
			return nil, errBounds
		}
		n, err := w.im.readVA(w.base+off, w.buf)
		if n < size {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		w.from, w.n = off, uint64(n)
	}
	at := off - w.from
	return w.buf[at : at+uint64(size)], nil
}

// relocation is an entry of the dynamic relocation table.
type relocation struct {
	offset uint64
	info   uint64
	addend int64
}

func (r relocation) relative(arch string) bool {
	if arch == "arm64" {
		return uint32(r.info) == uint32(elf.R_AARCH64_RELATIVE)
	}
	return uint32(r.info) == uint32(elf.R_X86_64_RELATIVE)
}

// threadLocal reports whether the loader puts an offset from the thread pointer at r.offset.
func (r relocation) threadLocal(arch string) bool {
	if arch == "arm64" {
		return uint32(r.info) == uint32(elf.R_AARCH64_TLS_TPREL64)
	}
	return uint32(r.info) == uint32(elf.R_X86_64_TPOFF64)
}

// relocations calls fn for each entry of the table DT_RELA, until it returns false.
func (im *image) relocations(fn func(relocation) bool) {
	var addr, size uint64
	for _, p := range im.f.Progs {
		if p.Type != elf.PT_DYNAMIC {
			continue
		}
		dyn := make([]byte, min(p.Filesz, 64<<10))
		n, err := im.r.ReadAt(dyn, int64(min(p.Off, 1<<62)))
		if err != nil && n == 0 {
			return
		}
		for dyn = dyn[:n]; len(dyn) >= 16; dyn = dyn[16:] {
			switch elf.DynTag(im.le.Uint64(dyn)) {
			case elf.DT_RELA:
				addr = im.le.Uint64(dyn[8:])
			case elf.DT_RELASZ:
				size = im.le.Uint64(dyn[8:])
			}
		}
	}
	const entry = 24
	if addr == 0 || size > maxPcTable {
		return
	}
	w := newWindow(im, addr)
	for off := uint64(0); off+entry <= size; off += entry {
		b, err := w.bytes(off, entry)
		if err != nil {
			return
		}
		if !fn(relocation{im.le.Uint64(b), im.le.Uint64(b[8:]), int64(im.le.Uint64(b[16:]))}) {
			return
		}
	}
}

// pointer is the link-time value of a pointer variable: what a relocation puts there, or else the file's contents.
func (im *image) pointer(addr uint64) (value uint64, ok bool) {
	if im.f.Type == elf.ET_DYN {
		im.relocations(func(r relocation) bool {
			if r.offset == addr && r.relative(im.arch) {
				value, ok = uint64(r.addend), true
			}
			return !ok
		})
		if ok {
			return value, true
		}
	}
	var b [8]byte
	if im.readFullVA(addr, b[:]) != nil {
		return 0, false
	}
	return im.le.Uint64(b[:]), true
}

// hasFuncName reports whether the table has a function of that name, runtime's or not.
func (t *funcTable) hasFuncName(name string) bool {
	off, ok := t.im.fileOffset(t.addr + t.funcnames)
	if !ok {
		return false
	}
	return containsName(io.NewSectionReader(t.im.r, int64(off), int64(t.cutab-t.funcnames)), name)
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
