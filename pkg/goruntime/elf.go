package goruntime

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
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

var errBounds = errors.New("out of bounds")

// image is an ELF executable opened for bounded reading by file offset and by link-time address.
type image struct {
	r    io.ReaderAt
	f    *elf.File
	le   binary.ByteOrder
	arch string

	tlsSlotUsed uint64 // slot of the global offset table that tlsSlot was asked for last and that the loader fills
}

// openELF parses the headers of a file of any class and architecture. debug/elf guards its own allocations, but not the
// number of sections, which is checked first. Sections are a linker's: the kernel runs a program without. Where they
// are broken, they are left out, also of what is then to be read in place of r.
func openELF(r io.ReaderAt) (*elf.File, io.ReaderAt, error) {
	var h [64]byte
	if n, _ := r.ReadAt(h[:], 0); n < 52 || string(h[:4]) != elf.ELFMAG {
		return nil, nil, errors.New("no ELF file")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(h[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	// Where the header of each class has the place of the sections, the number of segments, and that of sections with the
	// one of their names.
	shoff, shoffSize, phnum, shnum := 40, 8, 56, 60
	if elf.Class(h[elf.EI_CLASS]) == elf.ELFCLASS32 {
		shoff, shoffSize, phnum, shnum = 32, 4, 44, 48
	}
	if n := order.Uint16(h[phnum:]); n > maxSegments {
		return nil, nil, fmt.Errorf("it has %d segments", n)
	}
	// No sections, but a place for them: the true number is the size of section 0 then (ELF's escape for more than 65279),
	// which no Go linker needs.
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

// openImage parses the headers of a program that may be observed.
func openImage(r io.ReaderAt) (*image, error) {
	var h [64]byte
	if n, err := r.ReadAt(h[:], 0); n < len(h) {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, refuse(ReasonMalformed, nil, "the file is too short to be a program")
		}
		return nil, refuse(ReasonUnreadable, err, "the file cannot be read")
	}
	if string(h[:4]) != elf.ELFMAG {
		return nil, refuse(ReasonMalformed, nil, "the file is not an ELF program")
	}
	if h[elf.EI_CLASS] != byte(elf.ELFCLASS64) || h[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return nil, refuse(ReasonArch, nil, "only 64-bit little-endian programs (amd64, arm64) can be observed")
	}
	le := binary.LittleEndian
	arch := ""
	switch m := elf.Machine(le.Uint16(h[18:])); m {
	case elf.EM_X86_64:
		arch = "amd64"
	case elf.EM_AARCH64:
		arch = "arm64"
	default:
		return nil, refuse(ReasonArch, nil, "only amd64 and arm64 programs can be observed, this one is for %s", m)
	}
	f, r, err := openELF(r)
	if err != nil {
		return nil, refuse(ReasonMalformed, err, "the program's ELF headers are broken")
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, refuse(ReasonMalformed, nil, "the file is an ELF %s, not a program", f.Type)
	}
	return &image{r: r, f: f, le: le, arch: arch}, nil
}

// section finds a section that has contents in the file.
func (im *image) section(name string) *elf.Section {
	for _, s := range im.f.Sections {
		if s.Name == name && s.Type != elf.SHT_NOBITS {
			return s
		}
	}
	return nil
}

// sectionBytes reads a section whole, decompressed, if it is no larger than limit.
func (im *image) sectionBytes(name string, limit uint64) ([]byte, error) {
	s := im.section(name)
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

// segment finds the PT_LOAD that maps link-time address va.
func (im *image) segment(va uint64) *elf.Prog {
	for _, p := range im.f.Progs {
		if p.Type == elf.PT_LOAD && va >= p.Vaddr && va-p.Vaddr < p.Memsz {
			return p
		}
	}
	return nil
}

// fileOffset translates a link-time address into a file offset.
func (im *image) fileOffset(va uint64) (off uint64, ok bool) {
	p := im.segment(va)
	if p == nil || va-p.Vaddr >= p.Filesz || p.Off > math.MaxInt64-(va-p.Vaddr) {
		return 0, false
	}
	return p.Off + (va - p.Vaddr), true
}

// readVA reads up to len(b) bytes at a link-time address, fewer at the end of a segment's file contents.
func (im *image) readVA(va uint64, b []byte) (n int, err error) {
	p := im.segment(va)
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
	n, err = im.r.ReadAt(b, int64(p.Off+d))
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// readFullVA reads exactly len(b) bytes at a link-time address.
func (im *image) readFullVA(va uint64, b []byte) error {
	n, err := im.readVA(va, b)
	if err == nil && n < len(b) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// executable reports whether va lies in a segment that is mapped executable.
func (im *image) executable(va uint64) bool {
	p := im.segment(va)
	return p != nil && p.Flags&elf.PF_X != 0
}

// writable reports whether [va, va+size) lies in one segment that is mapped writable.
func (im *image) writable(va, size uint64) bool {
	p := im.segment(va)
	return p != nil && p.Flags&elf.PF_W != 0 && size <= p.Memsz-(va-p.Vaddr)
}

// textRange is the range of link-time addresses that is mapped executable.
func (im *image) textRange() (text [2]uint64) {
	for _, p := range im.f.Progs {
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

// segments lists what of the file is mapped.
func (im *image) segments() (list []elf.ProgHeader) {
	for _, p := range im.f.Progs {
		if p.Type == elf.PT_LOAD {
			list = append(list, p.ProgHeader)
		}
	}
	return list
}
