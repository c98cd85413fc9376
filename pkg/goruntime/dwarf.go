package goruntime

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

// layoutFromDWARF reads the layout out of the binary's debugging information.
//
// Only compilation units of package runtime are decoded: the types g, m, p and schedt and those they embed are all defined there
// (cmd/link/internal/ld/dwarf.go puts a package's types into its units, of which there are several), and the .debug_info of a large program is
// a hundred times larger. The section is streamed up to the last type needed, so that memory stays bounded.
func layoutFromDWARF(im *image) (*Layout, error) {
	info := im.section(".debug_info")
	if info == nil {
		return nil, errors.New("no .debug_info")
	}
	abbrev, err := im.sectionBytes(".debug_abbrev", maxAbbrev)
	if err != nil {
		return nil, err
	}
	// DWARF 5 (Go 1.25 on) refers to code addresses by index; the entries of functions cannot be skipped without them.
	addr, _ := im.sectionBytes(".debug_addr", maxUnits)
	return layoutFromSections(abbrev, addr, info.Open())
}

// layoutFromSections reads the layout from .debug_info, given the sections it refers to.
func layoutFromSections(abbrev, addr []byte, info io.Reader) (*Layout, error) {
	units := &unitReader{r: bufio.NewReaderSize(info, 64<<10)}
	t := typeFinder{abbrev: abbrev, addr: addr, structs: map[string]*dwarfStruct{
		"runtime.g": nil, "runtime.m": nil, "runtime.p": nil, "runtime.schedt": nil,
	}}
	for {
		data, base, err := units.nextRuntime()
		if err != nil {
			return nil, err
		}
		if err := t.add(data, base); err != nil {
			return nil, err
		}
		if t.missing() {
			continue
		}
		l, err := t.layout()
		if !errors.Is(err, errUnitNotRead) {
			return l, err
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

// isRuntimeUnit reports whether a compilation unit beginning with head is package runtime's. The Go compiler and linker write the name of the
// package as the first attribute, inline (cmd/internal/dwarf/dwarf.go, DW_ABRV_COMPUNIT); units of C code never match.
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

// typeFinder collects units until they describe all types wanted.
type typeFinder struct {
	abbrev, addr []byte
	units        []*dwarfUnit
	structs      map[string]*dwarfStruct // nil until found
}

// dwarfUnit is one compilation unit decoded by itself: its offsets count from its own beginning, references between units from the section's.
type dwarfUnit struct {
	base  uint64
	bytes []byte
	data  *dwarf.Data // nil until needed
}

// decode prepares a unit for reading.
func (t *typeFinder) decode(u *dwarfUnit) error {
	if u.data != nil {
		return nil
	}
	d, err := dwarf.New(t.abbrev, nil, nil, u.bytes, nil, nil, nil, nil)
	if err != nil {
		return err
	}
	if t.addr != nil {
		if err := d.AddSection(".debug_addr", t.addr); err != nil {
			return err
		}
	}
	u.data = d
	return nil
}

// add takes in a unit and looks for the wanted types in it. A quick look saves decoding the units that hold functions only.
func (t *typeFinder) add(unit []byte, base uint64) error {
	if len(t.units) >= maxRuntimeUnits {
		return errBounds
	}
	u := &dwarfUnit{base: base, bytes: unit}
	t.units = append(t.units, u)
	named := false
	for name := range t.structs {
		named = named || bytes.Contains(unit, []byte(name+"\x00"))
	}
	if !named {
		return nil
	}
	if err := t.decode(u); err != nil {
		return err
	}
	r := u.data.Reader()
	// Depth is counted here because dwarf.Reader.SkipChildren recurses, and a hostile file can nest deep enough to overflow the stack.
	depth := 0
	for entries := 0; t.missing(); entries++ {
		// Every entry takes a byte at least, but debug/dwarf gives null entries without end for a number that is cut off at the end of the unit.
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
		if s, wanted := t.structs[name]; !wanted || s != nil {
			continue
		}
		if t.structs[name], err = u.readStruct(e.Offset); err != nil {
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

func (t *typeFinder) missing() bool {
	for _, s := range t.structs {
		if s == nil {
			return true
		}
	}
	return false
}

// layout resolves every field. Fields that do not exist are Absent; errUnitNotRead asks for more units.
func (t *typeFinder) layout() (*Layout, error) {
	l := new(Layout)
	var unread error
	l.visit(func(typeName string, alternatives []string, _ bool, dst *int32) {
		s := t.structs[typeName]
		if alternatives == nil {
			*dst = s.size
			return
		}
		*dst = Absent
		for _, path := range alternatives {
			off, err := t.offset(s, path)
			if err == nil {
				*dst = off
				return
			}
			if errors.Is(err, errUnitNotRead) {
				unread = err
			}
		}
	})
	return l, unread
}

// offset resolves a path such as "runq.head" from a struct.
func (t *typeFinder) offset(s *dwarfStruct, path string) (int32, error) {
	first, rest, nested := strings.Cut(path, ".")
	m, ok := s.members[first]
	if !ok {
		return 0, fmt.Errorf("no field %s", first)
	}
	if !nested {
		return m.off, nil
	}
	for _, u := range t.units {
		if m.typ < u.base || m.typ-u.base >= uint64(len(u.bytes)) {
			continue
		}
		if err := t.decode(u); err != nil {
			return 0, err
		}
		inner, err := u.readStruct(dwarf.Offset(m.typ - u.base))
		if err != nil {
			return 0, err
		}
		off, err := t.offset(inner, rest)
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

// readStruct reads the struct type at off. debug/dwarf's own Data.Type is not used because it follows every pointer of the runtime's types.
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
	if size <= 0 || size > maxTypeSize {
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
