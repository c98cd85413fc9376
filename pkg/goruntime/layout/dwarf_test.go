package layout

import (
	"bytes"
	stdbinary "encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// maxFuzzInput bounds the inputs: what goes wrong with large ones goes wrong with small ones.
const maxFuzzInput = 1 << 20

// dwarfFixture writes debugging information that describes a layout, the way the Go linker does but with nothing else:
// one unit of package runtime with functions only, then one with the types, and one with the types these embed.
func dwarfFixture(l *Layout, version int) (abbrev, info []byte) {
	abbrev = []byte{
		1, 0x11, 1, 0x03, 0x08, 0, 0, // compile unit: name as a string; children
		2, 0x13, 1, 0x03, 0x08, 0x0b, 0x0f, 0, 0, // struct: name, size as ULEB128; children
		// member: name, offset, type as a reference into the section
		3, 0x0d, 0, 0x03, 0x08, 0x38, 0x0f, 0x49, 0x10, 0, 0,
		4, 0x16, 0, 0x03, 0x08, 0x49, 0x10, 0, 0, // typedef: name, type
		5, 0x2e, 1, 0x03, 0x08, 0, 0, // function: name; children
		6, 0x05, 0, 0x03, 0x08, 0, 0, // parameter: name
		0,
	}
	le := stdbinary.LittleEndian
	unit := func(name string, body []byte) {
		head := []byte{0, 0, 0, 0, byte(version), 0, 0, 0, 0, 0, 8}
		if version >= 5 {
			head = []byte{0, 0, 0, 0, byte(version), 0, 1, 8, 0, 0, 0, 0}
		}
		u := append(append(append(head, 1), name+"\x00"...), append(body, 0)...)
		le.PutUint32(u, uint32(len(u)-4))
		info = append(info, u...)
	}
	headSize := func(name string) int {
		if version >= 5 {
			return 14 + len(name)
		}
		return 13 + len(name)
	}
	str := func(b []byte, s string) []byte { return append(append(b, s...), 0) }

	unit("main", str([]byte{5}, "main.main\x00")[:11])
	functions := append(str([]byte{5}, "runtime.gopark"), append(str([]byte{6}, "reason"), 0)...)
	unit("runtime", functions)

	// What g, m, p and schedt embed comes first here: structs by the name of the field they are the type of, behind a
	// typedef each.
	type member struct {
		path string
		off  int32
	}
	byType := make(map[string][]member)
	sizes := make(map[string]int32)
	l.Visit(func(typeName string, alternatives []string, _ bool, dst *int32) {
		if alternatives == nil {
			sizes[typeName] = *dst
		} else if *dst != Absent {
			byType[typeName] = append(byType[typeName], member{alternatives[len(alternatives)-1], *dst})
		}
	})
	names := []string{"runtime.g", "runtime.m", "runtime.p", "runtime.schedt"}
	var embedded []byte
	refs := make(map[string]uint32)
	embeddedBase := len(info)
	for _, name := range names {
		inner := make(map[string][]member)
		var order []string
		for _, m := range byType[name] {
			if first, rest, ok := strings.Cut(m.path, "."); ok {
				if inner[first] == nil {
					order = append(order, first)
				}
				inner[first] = append(inner[first], member{rest, m.off})
			}
		}
		for _, first := range order {
			at := func() uint32 { return uint32(embeddedBase + headSize("runtime") + len(embedded)) }
			structAt := at()
			start := int32(math.MaxInt32)
			for _, m := range inner[first] {
				start = min(start, m.off)
			}
			embedded = stdbinary.AppendUvarint(str(append(embedded, 2), "inner."+first), 4096)
			for _, m := range inner[first] {
				embedded = stdbinary.AppendUvarint(str(append(embedded, 3), m.path), uint64(m.off-start))
				embedded = le.AppendUint32(embedded, 0)
			}
			embedded = append(embedded, 0)
			refs[name+"."+first] = at()
			embedded = le.AppendUint32(str(append(embedded, 4), "type."+first), structAt)
		}
	}
	unit("runtime", embedded)

	var types []byte
	for _, name := range names {
		types = stdbinary.AppendUvarint(str(append(types, 2), name), uint64(sizes[name]))
		done := make(map[string]bool)
		for _, m := range byType[name] {
			first, _, nested := strings.Cut(m.path, ".")
			if done[first] {
				continue
			}
			done[first] = true
			off := m.off
			if nested {
				for _, o := range byType[name] {
					if f, _, _ := strings.Cut(o.path, "."); f == first {
						off = min(off, o.off)
					}
				}
			}
			types = stdbinary.AppendUvarint(str(append(types, 3), first), uint64(off))
			types = le.AppendUint32(types, refs[name+"."+first])
		}
		types = append(types, 0)
	}
	unit("runtime", types)
	return abbrev, info
}

// fromSections is FromDWARF for the contents of the sections.
func fromSections(abbrev, addr []byte, info *bytes.Reader) (*Layout, error) {
	l := new(Layout)
	return l, binary.ReadStructs(abbrev, addr, info, typeNames, l.fill)
}

// FuzzDWARF feeds broken debugging information to the search for the layout.
func FuzzDWARF(f *testing.F) {
	for _, key := range []layoutKey{{21, "amd64", ""}, {27, "arm64", ""}} {
		for _, version := range []int{4, 5} {
			abbrev, info := dwarfFixture(&layoutTable[key][0].layout, version)
			f.Add(abbrev, info)
		}
	}
	f.Fuzz(func(t *testing.T, abbrev, info []byte) {
		defer fuzztest.Bound(t, 10*time.Second, len(info))()
		if len(abbrev) > maxFuzzInput || len(info) > maxFuzzInput {
			return
		}
		if l, err := fromSections(abbrev, nil, bytes.NewReader(info)); err == nil {
			_ = l.Missing()
		}
	})
}

// TestDWARFFixture reads back what the fixture describes: every field of every release line, in both versions of the
// format.
func TestDWARFFixture(t *testing.T) {
	for key, entries := range layoutTable {
		for _, e := range entries {
			for _, version := range []int{4, 5} {
				abbrev, info := dwarfFixture(&e.layout, version)
				got, err := fromSections(abbrev, nil, bytes.NewReader(info))
				if err != nil {
					t.Fatalf("%v, DWARF %d: %v", key, version, err)
				}
				if *got != e.layout {
					t.Errorf("%v, DWARF %d:\n%+v\nwant\n%+v", key, version, *got, e.layout)
				}
			}
		}
	}
}

// TestNestedDWARF has debugging information that nests as deep as it is long, on which a recursive reader overflows its
// stack.
func TestNestedDWARF(t *testing.T) {
	// a unit with a name; a variable with children and no attributes
	abbrev := []byte{1, 0x11, 1, 0x03, 0x08, 0, 0, 2, 0x34, 1, 0, 0, 0}
	unit := append([]byte{0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8, 1}, "runtime\x00"...)
	unit = append(unit, "\x02runtime.schedt\x00"...)
	unit = append(unit, bytes.Repeat([]byte{2}, 8<<20)...)
	stdbinary.LittleEndian.PutUint32(unit, uint32(len(unit)-4))
	if _, err := fromSections(abbrev, nil, bytes.NewReader(unit)); err == nil {
		t.Error("nested debugging information accepted")
	}
}
