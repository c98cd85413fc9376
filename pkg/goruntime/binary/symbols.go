package binary

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
)

// Symbol is a function or a variable of the program.
type Symbol struct {
	Addr, Size uint64
	Type       elf.SymType
}

// Symbols looks names up in .symtab. Every name must begin with "runtime.". The tables are streamed: those of a large
// program run to 100 MB, and a few dozen entries matter.
func (f *File) Symbols(wanted map[string]bool) (map[string]Symbol, error) {
	tab := f.section(".symtab")
	if tab == nil || tab.Type != elf.SHT_SYMTAB {
		return nil, errors.New("no .symtab")
	}
	if int(tab.Link) >= len(f.elf.Sections) {
		return nil, errBounds
	}
	str := f.elf.Sections[tab.Link]
	if str.Type != elf.SHT_STRTAB || str.FileSize > maxStrtab {
		return nil, errBounds
	}
	names, err := stringOffsets(io.NewSectionReader(str, 0, int64(str.FileSize)), wanted)
	if err != nil {
		return nil, err
	}
	found := make(map[string]Symbol, len(wanted))
	if len(names) == 0 {
		return found, nil
	}
	const entry = 24 // sizeof(Elf64_Sym)
	buf := make([]byte, entry*4096)
	r := io.NewSectionReader(tab, 0, int64(min(tab.FileSize, maxStrtab)))
	for {
		n, err := io.ReadFull(r, buf)
		for b := buf[:n-n%entry]; len(b) > 0; b = b[entry:] {
			name, ok := names[f.le.Uint32(b)]
			if !ok {
				continue
			}
			if elf.SectionIndex(f.le.Uint16(b[6:])) == elf.SHN_UNDEF {
				continue
			}
			s := Symbol{Addr: f.le.Uint64(b[8:]), Size: f.le.Uint64(b[16:]), Type: elf.ST_TYPE(b[4])}
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

// stringOffsets finds where in a string table the wanted names begin. One name may occur several times: linkers let a
// name be the tail of a longer one.
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
