package binary

import (
	"bufio"
	"bytes"
	"debug/dwarf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// RuntimeStructs reads struct types of package runtime from the debugging information. It calls use when it has met all
// types of these names, such as "runtime.g". When use asks for a type that is further on, it is called again with more.
//
// Only compilation units of package runtime are decoded: a package's types lie in its own units, of which there are
// several (cmd/link/internal/ld/dwarf.go). The .debug_info of a large program is a hundred times larger. The section is
// streamed up to the last type needed, so that memory stays bounded.
func (f *File) RuntimeStructs(names []string, use func(*Structs) error) error {
	info := f.section(".debug_info")
	if info == nil {
		return errors.New("no .debug_info")
	}
	abbrev, err := f.sectionBytes(".debug_abbrev", maxAbbrev)
	if err != nil {
		return err
	}
	// DWARF 5 (Go 1.25 on) refers to code addresses by index; the entries of functions cannot be skipped without them.
	addr, _ := f.sectionBytes(".debug_addr", maxUnits)
	return ReadStructs(abbrev, addr, info.Open(), names, use)
}

// ReadStructs is [File.RuntimeStructs] for the contents of the sections .debug_abbrev, .debug_addr and .debug_info.
func ReadStructs(abbrev, addr []byte, info io.Reader, names []string, use func(*Structs) error) error {
	units := &unitReader{r: bufio.NewReaderSize(info, 64<<10)}
	s := &Structs{abbrev: abbrev, addr: addr, structs: make(map[string]*dwarfStruct)}
	for _, name := range names {
		s.structs[name] = nil
	}
	for {
		data, base, err := units.nextRuntime()
		if err != nil {
			return err
		}
		if err := s.add(data, base); err != nil {
			return err
		}
		if s.missing() {
			continue
		}
		s.further = false
		if err := use(s); err != nil || !s.further {
			return err
		}
	}
}

var (
	errNoTypes     = errors.New("the types g, m, p and schedt are not described")
	errUnitNotRead = errors.New("a type lies in a unit not read so far")
)

// unitReader walks the compilation units of a .debug_info stream.
type unitReader struct {
	r    *bufio.Reader
	next uint64 // offset of the next unit in the section
	kept int    // bytes of the units handed out
}

// nextRuntime skips to the next compilation unit of package runtime and says where in the section it begins.
func (u *unitReader) nextRuntime() (unit []byte, base uint64, err error) {
	for {
		head, err := u.r.Peek(64)
		if len(head) < 16 {
			if err == nil || errors.Is(err, io.EOF) {
				err = errNoTypes
			}
			return nil, 0, err
		}
		length := binary.LittleEndian.Uint32(head)
		if length > math.MaxInt32 { // all ones would be 64-bit DWARF, which no toolchain emits on Linux
			return nil, 0, fmt.Errorf("compilation unit of %d bytes: %w", length, errBounds)
		}
		total := int(length) + 4
		base := u.next
		u.next += uint64(total)
		if !isRuntimeUnit(head[:min(len(head), total)]) {
			if _, err := u.r.Discard(total); err != nil {
				return nil, 0, err
			}
			continue
		}
		if u.kept += total; u.kept > maxUnits {
			return nil, 0, fmt.Errorf("debugging information of package runtime: %w", errBounds)
		}
		var b bytes.Buffer
		if _, err := io.CopyN(&b, u.r, int64(total)); err != nil {
			return nil, 0, err
		}
		return b.Bytes(), base, nil
	}
}

// isRuntimeUnit reports whether a compilation unit beginning with head is package runtime's. The Go compiler and linker
// write the name of the package as the first attribute, inline (cmd/internal/dwarf/dwarf.go, DW_ABRV_COMPUNIT); units
// of C code never match.
func isRuntimeUnit(head []byte) bool {
	if len(head) < 12 {
		return false
	}
	pos := 11 // DWARF 4: length, version, abbreviation offset, address size
	if binary.LittleEndian.Uint16(head[4:]) >= 5 {
		pos = 12 // and the unit type
	}
	for pos < len(head) && head[pos]&0x80 != 0 {
		pos++ // abbreviation code, ULEB128
	}
	pos++
	return pos < len(head) && bytes.HasPrefix(head[pos:], []byte("runtime\x00"))
}

// Structs are struct types of package runtime, as the debugging information describes them.
type Structs struct {
	abbrev, addr []byte
	units        []*dwarfUnit
	structs      map[string]*dwarfStruct // nil until found
	further      bool                    // a type was asked for that lies in a unit not read so far
}

// dwarfUnit is one compilation unit decoded by itself: its offsets count from its own beginning, references between
// units from the section's.
type dwarfUnit struct {
	base  uint64
	bytes []byte
	data  *dwarf.Data // nil until needed
}

// decode prepares a unit for reading.
func (s *Structs) decode(u *dwarfUnit) error {
	if u.data != nil {
		return nil
	}
	d, err := dwarf.New(s.abbrev, nil, nil, u.bytes, nil, nil, nil, nil)
	if err != nil {
		return err
	}
	if s.addr != nil {
		if err := d.AddSection(".debug_addr", s.addr); err != nil {
			return err
		}
	}
	u.data = d
	return nil
}

// add takes in a unit and looks for the wanted types in it. A quick look saves decoding the units that hold functions
// only.
func (s *Structs) add(unit []byte, base uint64) error {
	if len(s.units) >= maxRuntimeUnits {
		return errBounds
	}
	u := &dwarfUnit{base: base, bytes: unit}
	s.units = append(s.units, u)
	named := false
	for name := range s.structs {
		named = named || bytes.Contains(unit, []byte(name+"\x00"))
	}
	if !named {
		return nil
	}
	if err := s.decode(u); err != nil {
		return err
	}
	r := u.data.Reader()
	// Depth is counted here because dwarf.Reader.SkipChildren recurses, and a hostile file can nest deep enough to
	// overflow the stack.
	depth := 0
	for entries := 0; s.missing(); entries++ {
		// Every entry takes a byte at least, but debug/dwarf gives null entries without end for a number that is cut
		// off at the end of the unit.
		if entries > len(unit) {
			return errBounds
		}
		e, err := r.Next()
		if err != nil {
			return err
		}
		if e == nil {
			return nil
		}
		if e.Tag == 0 {
			depth--
			continue
		}
		if e.Children {
			depth++
		}
		if e.Tag != dwarf.TagStructType || depth > 2 {
			continue
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		if found, wanted := s.structs[name]; !wanted || found != nil {
			continue
		}
		if s.structs[name], err = u.readStruct(e.Offset); err != nil {
			return err
		}
		if e.Children {
			depth-- // r stands behind the struct's own entry; its members are met next, and then the end of the list
			for {
				m, err := r.Next()
				if err != nil {
					return err
				}
				if m == nil || m.Tag == 0 {
					break
				}
			}
		}
	}
	return nil
}

func (s *Structs) missing() bool {
	for _, found := range s.structs {
		if found == nil {
			return true
		}
	}
	return false
}

// Size is the size of one of the types that were asked for.
func (s *Structs) Size(name string) int32 { return s.structs[name].size }

// Offset is where a field lies in one of the types that were asked for. The path names it as Go code does: "runq.head".
// ok is false if there is no such field.
func (s *Structs) Offset(name, path string) (off int32, ok bool) {
	off, err := s.offset(s.structs[name], path)
	if errors.Is(err, errUnitNotRead) {
		s.further = true
	}
	return off, err == nil
}

// offset resolves a path from a struct.
func (s *Structs) offset(typ *dwarfStruct, path string) (int32, error) {
	first, rest, nested := strings.Cut(path, ".")
	m, ok := typ.members[first]
	if !ok {
		return 0, fmt.Errorf("no field %s", first)
	}
	if !nested {
		return m.off, nil
	}
	for _, u := range s.units {
		if m.typ < u.base || m.typ-u.base >= uint64(len(u.bytes)) {
			continue
		}
		if err := s.decode(u); err != nil {
			return 0, err
		}
		inner, err := u.readStruct(dwarf.Offset(m.typ - u.base))
		if err != nil {
			return 0, err
		}
		off, err := s.offset(inner, rest)
		return m.off + off, err
	}
	return 0, fmt.Errorf("%s: %w", first, errUnitNotRead)
}

// dwarfStruct is a struct type with its members.
type dwarfStruct struct {
	size    int32
	members map[string]dwarfMember
}

type dwarfMember struct {
	off int32
	typ uint64 // offset of the type in .debug_info
}

// readStruct reads the struct type at off. debug/dwarf's own Data.Type is not used because it follows every pointer of
// the runtime's types.
func (u *dwarfUnit) readStruct(off dwarf.Offset) (*dwarfStruct, error) {
	r := u.data.Reader()
	r.Seek(off)
	e, err := r.Next()
	// The type of a field is a typedef whose own type is the struct.
	for range 4 {
		if err != nil || e == nil || e.Tag != dwarf.TagTypedef {
			break
		}
		t, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
		if !ok || uint64(t) < u.base || uint64(t)-u.base >= uint64(len(u.bytes)) {
			return nil, fmt.Errorf("typedef at %#x names no type of its unit", off)
		}
		r.Seek(t - dwarf.Offset(u.base))
		e, err = r.Next()
	}
	if err != nil {
		return nil, err
	}
	if e == nil || e.Tag != dwarf.TagStructType {
		return nil, fmt.Errorf("no struct type at %#x", off)
	}
	size, _ := e.Val(dwarf.AttrByteSize).(int64)
	if size <= 0 || size > MaxTypeSize {
		return nil, fmt.Errorf("struct of %d bytes", size)
	}
	s := &dwarfStruct{size: int32(size), members: make(map[string]dwarfMember)}
	for e.Children {
		m, err := r.Next()
		if err != nil {
			return nil, err
		}
		if m == nil || m.Tag == 0 {
			break
		}
		if m.Tag != dwarf.TagMember || m.Children {
			return nil, fmt.Errorf("struct at %#x has members with members", off) // Go never writes such
		}
		name, _ := m.Val(dwarf.AttrName).(string)
		at, ok := m.Val(dwarf.AttrDataMemberLoc).(int64)
		if !ok || at < 0 || at > size {
			continue
		}
		typ, _ := m.Val(dwarf.AttrType).(dwarf.Offset)
		s.members[name] = dwarfMember{off: int32(at), typ: uint64(typ)}
	}
	return s, nil
}
