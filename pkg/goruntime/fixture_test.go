package goruntime

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

// dwarfFixture writes debugging information that describes a layout, the way the Go linker does but with nothing else: one unit of package runtime
// with functions only, then one with the types, and one with the types these embed.
func dwarfFixture(l *Layout, version int) (abbrev, info []byte) {
	abbrev = []byte{
		1, 0x11, 1, 0x03, 0x08, 0, 0, // compile unit: name as a string; children
		2, 0x13, 1, 0x03, 0x08, 0x0b, 0x0f, 0, 0, // struct: name, size as ULEB128; children
		3, 0x0d, 0, 0x03, 0x08, 0x38, 0x0f, 0x49, 0x10, 0, 0, // member: name, offset, type as a reference into the section
		4, 0x16, 0, 0x03, 0x08, 0x49, 0x10, 0, 0, // typedef: name, type
		5, 0x2e, 1, 0x03, 0x08, 0, 0, // function: name; children
		6, 0x05, 0, 0x03, 0x08, 0, 0, // parameter: name
		0,
	}
	le := binary.LittleEndian
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

	// What g, m, p and schedt embed comes first here: structs by the name of the field they are the type of, behind a typedef each.
	type member struct {
		path string
		off  int32
	}
	byType := make(map[string][]member)
	sizes := make(map[string]int32)
	l.visit(func(typeName string, alternatives []string, _ bool, dst *int32) {
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
			embedded = binary.AppendUvarint(str(append(embedded, 2), "inner."+first), 4096)
			for _, m := range inner[first] {
				embedded = binary.AppendUvarint(str(append(embedded, 3), m.path), uint64(m.off-start))
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
		types = binary.AppendUvarint(str(append(types, 2), name), uint64(sizes[name]))
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
			types = binary.AppendUvarint(str(append(types, 3), first), uint64(off))
			types = le.AppendUint32(types, refs[name+"."+first])
		}
		types = append(types, 0)
	}
	unit("runtime", types)
	return abbrev, info
}

// pclntabFixture writes a table of functions at 0x10000 with module data behind it.
func pclntabFixture(funcs []string, arm bool) []byte {
	const base, size = 0x10000, 64
	le := binary.LittleEndian
	slices.Sort(funcs)
	names := []byte{0}
	var list, records []byte
	recordsAt := (len(funcs)*2 + 1) * 4
	for i, name := range funcs {
		list = le.AppendUint32(list, uint32(i*size))
		list = le.AppendUint32(list, uint32(recordsAt+len(records)))
		records = le.AppendUint32(records, uint32(i*size))
		records = le.AppendUint32(records, uint32(len(names)))
		names = append(append(names, name...), 0)
	}
	list = le.AppendUint32(list, uint32(len(funcs)*size))
	quantum := byte(1)
	if arm {
		quantum = 4
	}
	t := []byte{0xf1, 0xff, 0xff, 0xff, 0, 0, quantum, 8}
	namesAt := uint64(72)
	funcsAt := (namesAt + uint64(len(names)) + 7) &^ 7
	for _, word := range []uint64{uint64(len(funcs)), 1, 0, namesAt, namesAt + uint64(len(names)), 0, 0, funcsAt} {
		t = le.AppendUint64(t, word)
	}
	t = append(t, names...)
	t = append(t, make([]byte, int(funcsAt)-len(t))...)
	t = append(append(t, list...), records...)
	t = append(t, make([]byte, -len(t)&7)...)
	module := make([]byte, 400)
	le.PutUint64(module, base)
	le.PutUint64(module[8:], base+namesAt)
	le.PutUint64(module[22*8:], base)
	return append(t, module...)
}

// tableImage is an ELF image of one segment at 0x10000.
func tableImage(contents []byte, arm bool) *image {
	im := &image{r: bytes.NewReader(contents), le: binary.LittleEndian, arch: "amd64", f: &elf.File{}}
	if arm {
		im.arch = "arm64"
	}
	im.f.Progs = []*elf.Prog{{ProgHeader: elf.ProgHeader{
		Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_W | elf.PF_X, Vaddr: 0x10000, Filesz: uint64(len(contents)), Memsz: uint64(len(contents)),
	}}}
	return im
}
