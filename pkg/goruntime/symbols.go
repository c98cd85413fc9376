package goruntime

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
)

// symbol is what a symbol table says of one name.
type symbol struct {
	value, size uint64
	typ         elf.SymType
	section     elf.SectionIndex
}

// symbols looks names up in .symtab. The tables are streamed: those of a large program run to 100 MB, of which a few dozen entries matter.
func (im *image) symbols(wanted map[string]bool) (map[string]symbol, error) {
	tab := im.section(".symtab")
	if tab == nil || tab.Type != elf.SHT_SYMTAB {
		return nil, errors.New("no .symtab")
	}
	if int(tab.Link) >= len(im.f.Sections) {
		return nil, errBounds
	}
	str := im.f.Sections[tab.Link]
	if str.Type != elf.SHT_STRTAB || str.FileSize > maxStrtab {
		return nil, errBounds
	}
	names, err := stringOffsets(io.NewSectionReader(str, 0, int64(str.FileSize)), wanted)
	if err != nil {
		return nil, err
	}
	found := make(map[string]symbol, len(wanted))
	if len(names) == 0 {
		return found, nil
	}
	const entry = 24 // sizeof(Elf64_Sym)
	buf := make([]byte, entry*4096)
	r := io.NewSectionReader(tab, 0, int64(min(tab.FileSize, maxStrtab)))
	for {
		n, err := io.ReadFull(r, buf)
		for b := buf[:n-n%entry]; len(b) > 0; b = b[entry:] {
			name, ok := names[im.le.Uint32(b)]
			if !ok {
				continue
			}
			s := symbol{
				typ:     elf.ST_TYPE(b[4]),
				section: elf.SectionIndex(im.le.Uint16(b[6:])),
				value:   im.le.Uint64(b[8:]),
				size:    im.le.Uint64(b[16:]),
			}
			if s.section == elf.SHN_UNDEF {
				continue
			}
			if _, dup := found[name]; !dup {
				found[name] = s
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// stringOffsets finds where in a string table the wanted names begin. One name may occur several times: linkers let a name be the tail of a
// longer one.
func stringOffsets(r io.Reader, wanted map[string]bool) (map[uint32]string, error) {
	longest := 0
	for w := range wanted {
		longest = max(longest, len(w))
	}
	offsets := make(map[uint32]string)
	buf := make([]byte, 256<<10)
	keep, base := 0, 0 // bytes carried over from the chunk before; offset of buf[0] in the table
	for {
		n, err := io.ReadFull(r, buf[keep:])
		b := buf[:keep+n]
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return nil, err
		}
		for pos := 0; ; {
			// All wanted names belong to the runtime, which makes the search a memchr-like scan.
			i := bytes.Index(b[pos:], runtimeDot)
			if i < 0 {
				break
			}
			pos += i
			end := bytes.IndexByte(b[pos:min(len(b), pos+longest+1)], 0)
			if end > 0 && wanted[string(b[pos:pos+end])] {
				offsets[uint32(base+pos)] = string(b[pos : pos+end])
			}
			pos += len(runtimeDot)
		}
		if last {
			return offsets, nil
		}
		keep = min(len(b), longest+1)
		base += len(b) - keep
		copy(buf, b[len(b)-keep:])
	}
}

var runtimeDot = []byte("runtime.")
