package binary

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// Bounds on what an ELF file may make us read or allocate. Real Go programs stay far below all of them.
const (
	maxSections     = 1 << 14
	maxSegments     = 256
	maxAbbrev       = 4 << 20
	maxUnits        = 16 << 20 // the DWARF of package runtime is 1 to 2 MB
	maxRuntimeUnits = 128      // in 10 to 20 units
	maxStrtab       = 1 << 30
)

// MaxTypeSize bounds the size of a runtime type. The largest, p, is 16 kB in Go 1.27. The bound keeps a hostile DWARF
// from making others read far.
const MaxTypeSize = 256 << 10

var errBounds = errors.New("out of bounds")

// File is an ELF executable or shared library, opened for bounded reading. Its addresses are link-time addresses.
type File struct {
	Arch string // "amd64" or "arm64"

	r   io.ReaderAt
	elf *elf.File
	le  binary.ByteOrder
}

// openELF parses the headers of a file of any class and architecture. debug/elf guards its own allocations, but not the
// number of sections, which is checked first. The linker makes sections, and the kernel runs a program without them.
// Where they are broken, they are left out, also of the file that is to be read in place of r.
func openELF(r io.ReaderAt) (*elf.File, io.ReaderAt, error) {
	var h [64]byte
	if n, _ := r.ReadAt(h[:], 0); n < 52 || string(h[:4]) != elf.ELFMAG {
		return nil, nil, errors.New("no ELF file")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(h[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	// Where the header of each class has the offset of the sections, the number of segments, and the number of
	// sections, which is followed by the index of the section with their names.
	shoff, shoffSize, phnum, shnum := 40, 8, 56, 60
	if elf.Class(h[elf.EI_CLASS]) == elf.ELFCLASS32 {
		shoff, shoffSize, phnum, shnum = 32, 4, 44, 48
	}
	if n := order.Uint16(h[phnum:]); n > maxSegments {
		return nil, nil, fmt.Errorf("it has %d segments", n)
	}
	// No sections, but a place for them: the true number is the size of section 0 then (ELF's escape for more than
	// 65279), which no Go linker needs.
	if n := order.Uint16(h[shnum:]); n > 0 && n <= maxSections {
		if f, err := elf.NewFile(r); err == nil {
			return f, r, nil
		}
	}
	clear(h[shoff : shoff+shoffSize])
	clear(h[shnum : shnum+4])
	r = &overlaid{r, h[:shnum+4]}
	f, err := elf.NewFile(r)
	return f, r, err
}

// overlaid is a file with another beginning.
type overlaid struct {
	io.ReaderAt
	head []byte
}

// ReadAt implements io.ReaderAt.
func (o *overlaid) ReadAt(b []byte, off int64) (int, error) {
	n, err := o.ReaderAt.ReadAt(b, off)
	if off >= 0 && off < int64(len(o.head)) {
		copy(b[:n], o.head[off:])
	}
	return n, err
}

// Open parses the headers of a program that may be observed. Every error is a [*refusal.Error]: [refusal.NotGo] for a
// file in which nothing is of Go, whatever else is wrong with it.
func Open(r io.ReaderAt) (*File, error) {
	f, err := open(r)
	if err != nil {
		return nil, notGoAfterAll(r, err)
	}
	return f, nil
}

func open(r io.ReaderAt) (*File, error) {
	var h [64]byte
	if n, err := r.ReadAt(h[:], 0); n < len(h) {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, refusal.New(refusal.Malformed, nil, "the file is too short to be a program")
		}
		return nil, refusal.New(refusal.Unreadable, err, "the file cannot be read")
	}
	if string(h[:4]) != elf.ELFMAG {
		return nil, refusal.New(refusal.Malformed, nil, "the file is not an ELF program")
	}
	if h[elf.EI_CLASS] != byte(elf.ELFCLASS64) || h[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return nil, refusal.New(refusal.Arch, nil, "only 64-bit little-endian programs (amd64, arm64) can be observed")
	}
	le := binary.LittleEndian
	arch := ""
	switch m := elf.Machine(le.Uint16(h[18:])); m {
	case elf.EM_X86_64:
		arch = "amd64"
	case elf.EM_AARCH64:
		arch = "arm64"
	default:
		return nil, refusal.New(refusal.Arch, nil, "only amd64 and arm64 programs can be observed, this one is for %s",
			m)
	}
	f, r, err := openELF(r)
	if err != nil {
		return nil, refusal.New(refusal.Malformed, err, "the program's ELF headers are broken")
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, refusal.New(refusal.Malformed, nil, "the file is an ELF %s, not a program", f.Type)
	}
	return &File{Arch: arch, r: r, elf: f, le: le}, nil
}

// section finds a section that has contents in the file.
func (f *File) section(name string) *elf.Section {
	for _, s := range f.elf.Sections {
		if s.Name == name && s.Type != elf.SHT_NOBITS {
			return s
		}
	}
	return nil
}

// sectionBytes reads a section whole, decompressed, if it is no larger than limit.
func (f *File) sectionBytes(name string, limit uint64) ([]byte, error) {
	s := f.section(name)
	if s == nil {
		return nil, fmt.Errorf("no section %s", name)
	}
	if s.Size > limit {
		return nil, fmt.Errorf("section %s is %d bytes: %w", name, s.Size, errBounds)
	}
	// Reading through a growing buffer, not into one of s.Size bytes: the size is only a claim.
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(s.Open(), int64(limit)+1)); err != nil {
		return nil, err
	}
	if uint64(b.Len()) > limit {
		return nil, fmt.Errorf("section %s: %w", name, errBounds)
	}
	return b.Bytes(), nil
}

// PIE reports whether the file is position-independent: a process adds a load bias to its addresses.
func (f *File) PIE() bool { return f.elf.Type == elf.ET_DYN }

// Entry is the address of the entry point.
func (f *File) Entry() uint64 { return f.elf.Entry }

// segment finds the PT_LOAD that maps link-time address va.
func (f *File) segment(va uint64) *elf.Prog {
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_LOAD && va >= p.Vaddr && va-p.Vaddr < p.Memsz {
			return p
		}
	}
	return nil
}

// FileOffset translates a link-time address into a file offset.
func (f *File) FileOffset(va uint64) (off uint64, ok bool) {
	p := f.segment(va)
	if p == nil || va-p.Vaddr >= p.Filesz || p.Off > math.MaxInt64-(va-p.Vaddr) {
		return 0, false
	}
	return p.Off + (va - p.Vaddr), true
}

// Read reads up to len(b) bytes at a link-time address, fewer at the end of a segment's file contents.
func (f *File) Read(va uint64, b []byte) (n int, err error) {
	p := f.segment(va)
	if p == nil {
		return 0, errBounds
	}
	d := va - p.Vaddr
	if d >= p.Filesz || p.Off > math.MaxInt64-d {
		return 0, errBounds
	}
	if rest := p.Filesz - d; uint64(len(b)) > rest {
		b = b[:rest]
	}
	n, err = f.r.ReadAt(b, int64(p.Off+d))
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadFull reads exactly len(b) bytes at a link-time address.
func (f *File) ReadFull(va uint64, b []byte) error {
	n, err := f.Read(va, b)
	if err == nil && n < len(b) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Executable reports whether va lies in a segment that is mapped executable.
func (f *File) Executable(va uint64) bool {
	p := f.segment(va)
	return p != nil && p.Flags&elf.PF_X != 0
}

// Writable reports whether [va, va+size) lies in one segment that is mapped writable.
func (f *File) Writable(va, size uint64) bool {
	p := f.segment(va)
	return p != nil && p.Flags&elf.PF_W != 0 && size <= p.Memsz-(va-p.Vaddr)
}

// Text is the range of link-time addresses that is mapped executable.
func (f *File) Text() (text [2]uint64) {
	for _, p := range f.elf.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_X == 0 || p.Memsz > math.MaxUint64-p.Vaddr {
			continue
		}
		if text[1] == 0 || p.Vaddr < text[0] {
			text[0] = p.Vaddr
		}
		text[1] = max(text[1], p.Vaddr+p.Memsz)
	}
	return text
}

// Segments lists what of the file is mapped.
func (f *File) Segments() (list []elf.ProgHeader) {
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_LOAD {
			list = append(list, p.ProgHeader)
		}
	}
	return list
}

// scan calls fn for every aligned word of the file's contents in the loadable segments chosen, until it returns false.
func (f *File) scan(choose func(*elf.Prog) bool, fn func(addr, word uint64) bool) {
	buf := make([]byte, 64<<10)
	for _, p := range f.elf.Progs {
		if p.Type != elf.PT_LOAD || !choose(p) {
			continue
		}
		skip := -p.Vaddr & 7
		for pos := skip; pos < p.Filesz; {
			n, err := f.Read(p.Vaddr+pos, buf)
			n &^= 7
			for i := 0; i < n; i += 8 {
				if word := f.le.Uint64(buf[i:]); word != 0 && !fn(p.Vaddr+pos+uint64(i), word) {
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

// ByteAt is the initial value of a byte variable; 0 for one in the bss.
func (f *File) ByteAt(addr uint64) byte {
	var v [1]byte
	if addr == 0 || f.ReadFull(addr, v[:]) != nil {
		return 0
	}
	return v[0]
}
