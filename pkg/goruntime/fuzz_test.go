package goruntime

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// maxFuzzInput bounds the inputs: what goes wrong with large ones goes wrong with small ones.
const maxFuzzInput = 1 << 20

// patched is a file with some bytes replaced.
type patched struct {
	base    io.ReaderAt
	patches []patch
}

type patch struct {
	off   int64
	bytes []byte
}

func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.base.ReadAt(b, off)
	for _, c := range p.patches {
		for i, v := range c.bytes {
			if at := c.off + int64(i) - off; at >= 0 && at < int64(n) {
				b[at] = v
			}
		}
	}
	return n, err
}

// regions are the parts of a program that decide about anything; patches fall into these.
func regions(f *elf.File, data []byte) [][2]int64 {
	le := binary.LittleEndian
	list := [][2]int64{
		{0, 64},
		{int64(le.Uint64(data[32:])), int64(le.Uint16(data[56:])) * 56},
		{int64(le.Uint64(data[40:])), int64(le.Uint16(data[60:])) * 64},
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_NOBITS && s.Type != elf.SHT_NULL && s.FileSize > 0 {
			list = append(list, [2]int64{int64(s.Offset), int64(s.FileSize)})
		}
	}
	return list
}

// FuzzInspect patches a real program in places that matter and gives it to Inspect, which must answer or refuse: never panic or run away. The input
// is a list of patches: region, offset in it (3 bytes), number of bytes (at most 15), bytes.
func FuzzInspect(f *testing.F) {
	type base struct {
		data    []byte
		regions [][2]int64
	}
	load := sync.OnceValues(func() ([]base, error) {
		var bases []base
		for _, b := range []build{{}, {flags: []string{"-ldflags=-s -w", "-buildmode=pie"}}, {flags: []string{"-ldflags=-s -w"}}} {
			exe := program(f, b)
			if len(bases) == 2 {
				exe = renamed(f, exe, buildVersionOf(f, exe)) // the layout is searched for
			}
			data, err := os.ReadFile(exe)
			if err != nil {
				return nil, err
			}
			file, err := elf.NewFile(bytes.NewReader(data))
			if err != nil {
				return nil, err
			}
			bases = append(bases, base{data, regions(file, data)})
		}
		return bases, nil
	})
	if _, err := load(); err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(0), []byte{})
	f.Add(uint8(1), []byte{})
	f.Add(uint8(2), []byte{})
	f.Add(uint8(0), []byte{0, 0, 0, 18, 2, 183, 0})                                        // another architecture
	f.Add(uint8(1), []byte{1, 0, 0, 32, 8, 255, 255, 255, 255, 255, 255, 255, 127})        // a segment of nearly endless size
	f.Add(uint8(0), []byte{2, 0, 0, 96, 8, 255, 255, 255, 255, 255, 255, 255, 127})        // a section of nearly endless size
	f.Add(uint8(0), []byte{3, 0, 0, 0, 4, 0, 0, 0, 0, 10, 0, 0, 0, 4, 255, 255, 255, 255}) // broken contents
	f.Add(uint8(2), []byte{3, 1, 0, 0, 4, 235, 254, 235, 254, 3, 1, 0, 64, 2, 235, 252})   // code that jumps to itself
	f.Fuzz(func(t *testing.T, which uint8, input []byte) {
		defer fuzztest.Bound(t, 10*time.Second, len(input))()
		bases, err := load()
		if err != nil {
			t.Fatal(err)
		}
		b := bases[int(which)%len(bases)]
		p := &patched{base: bytes.NewReader(b.data)}
		for len(input) > 5 && len(p.patches) < 64 {
			region := b.regions[int(input[0])%len(b.regions)]
			off := int64(input[1])<<16 | int64(input[2])<<8 | int64(input[3])
			n := min(int(input[4]&15), len(input)-5)
			p.patches = append(p.patches, patch{region[0] + off%region[1], input[5 : 5+n]})
			input = input[5+n:]
		}
		bin, err := inspect(p) // not Inspect, which would hide panics
		if err != nil {
			_ = err.Error()
			return
		}
		if missing := bin.Layout.check(); missing != "" {
			t.Errorf("accepted without %s", missing)
		}
	})
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
		if l, err := layoutFromSections(abbrev, nil, bytes.NewReader(info)); err == nil {
			_ = l.check()
		}
	})
}

// TestDWARFFixture reads back what the fixture describes: every field of every release line, in both versions of the format.
func TestDWARFFixture(t *testing.T) {
	for key, entries := range layoutTable {
		for _, e := range entries {
			for _, version := range []int{4, 5} {
				abbrev, info := dwarfFixture(&e.layout, version)
				got, err := layoutFromSections(abbrev, nil, bytes.NewReader(info))
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

// FuzzPclntab feeds broken function tables to the look-up in stripped programs.
func FuzzPclntab(f *testing.F) {
	names := []string{"main.main", "runtime.procresize", "runtime.mcall", "crosscall2"}
	f.Add(pclntabFixture(names, false), false)
	f.Add(pclntabFixture(names, true), true)
	f.Fuzz(func(t *testing.T, table []byte, arm bool) {
		defer fuzztest.Bound(t, 10*time.Second, len(table))()
		if len(table) > maxFuzzInput {
			return
		}
		im := tableImage(table, arm)
		ft, err := openFuncTable(im)
		if err != nil {
			return
		}
		wanted := map[string]bool{"runtime.procresize": true, "runtime.mcall": true}
		funcs, err := ft.lookup(wanted)
		if err == nil && len(funcs) > len(wanted) {
			t.Error("found more than was wanted")
		}
		ft.hasFuncName("crosscall2")
	})
}

func TestPclntabFixture(t *testing.T) {
	for _, arm := range []bool{false, true} {
		ft, err := openFuncTable(tableImage(pclntabFixture([]string{"a", "runtime.mcall", "runtime.procresize", "z"}, arm), arm))
		if err != nil {
			t.Fatal(err)
		}
		funcs, err := ft.lookup(map[string]bool{"runtime.procresize": true, "runtime.mcall": true, "runtime.gone": true})
		if err != nil || len(funcs) != 2 || funcs["runtime.mcall"].value != 0x10000+64 || funcs["runtime.procresize"].value != 0x10000+128 ||
			funcs["runtime.procresize"].size != 64 {
			t.Errorf("%+v, %v", funcs, err)
		}
		if !ft.hasFuncName("runtime.mcall") || !ft.hasFuncName("z") || ft.hasFuncName("mcall") {
			t.Error("names are not told apart")
		}
	}
}

// FuzzCode feeds arbitrary bytes to the decoders.
func FuzzCode(f *testing.F) {
	f.Add([]byte("\x49\x3b\x66\x10\x0f\x86\x00\x01\x00\x00\x55\x48\x89\xe5"), uint64(0x401000))
	f.Add([]byte("\x90\x0b\x40\xf9\xff\x63\x30\xeb\x89\x18\x00\x54\xfe\x0f\x19\xf8"), uint64(0x11000))
	f.Add([]byte("\x64\x48\x89\x14\x25\xe0\xff\xff\xff"), uint64(0x401000))
	f.Fuzz(func(t *testing.T, code []byte, addr uint64) {
		defer fuzztest.Bound(t, 10*time.Second, len(code))()
		if len(code) > 64<<10 {
			return
		}
		im := tableImage(code, false)
		block := &elf.Prog{ProgHeader: elf.ProgHeader{Type: elf.PT_TLS, Memsz: 32, Align: 8}}
		for _, arch := range []string{"amd64", "arm64"} {
			im.arch = arch
			globalRefs(arch, code, addr)
			pick, use := pickAMD64, tlsUseAMD64
			if arch == "arm64" {
				pick, use = pickARM64, tlsUseARM64
			}
			if at, _, _, ok := pick(code, addr); ok && at >= len(code) {
				t.Errorf("%s: site at %d of %d bytes", arch, at, len(code))
			}
			if off, ok := use(im, block, code, addr); ok && !plausibleTLS(off) {
				t.Errorf("%s: slot at %d", arch, off)
			}
		}
	})
}

// FuzzWalk feeds arbitrary bytes to the walk through a function's code: it must end, and note nothing beyond its bounds.
func FuzzWalk(f *testing.F) {
	f.Add([]byte("\x49\x8b\x46\x30\x48\x89\x98\xd0\x00\x00\x00\xc3"), uint64(0x401000))                     // MOVQ 48(R14), AX; MOVQ BX, 208(AX); RET
	f.Add([]byte("\x48\x81\xec\x00\x01\x00\x00\x48\x89\x04\x24\xeb\xf3"), uint64(0x401000))                 // a loop that moves the stack pointer
	f.Add([]byte("\x74\xfe\x75\xfc\x74\xfa\xeb\xf8"), uint64(0x401000))                                     // jumps only
	f.Add([]byte("\xf0\x0f\xb1\x98\x90\x00\x00\x00\xff\x44\x88\x10\xe8\x00\x00\x00\x00"), uint64(0x401000)) // CMPXCHG, INC, CALL
	f.Add([]byte("\x81\x1b\x40\xf9\x40\x68\x00\xf9\xc0\x03\x5f\xd6"), uint64(0x11000))                      // MOVD 48(R28), R1; MOVD R0, 208(R2); RET
	f.Add([]byte("\xff\xc3\x04\xd1\xe0\x03\x00\xf9\xfe\xff\xff\x17"), uint64(0x11000))                      // a loop that moves the stack pointer
	f.Add([]byte("\x45\xfc\x5f\x88\xa5\x04\x00\x11\x45\xfc\x1b\x88\xbb\xff\xff\xb5"), uint64(0x11000))      // LDAXR, ADD, STLXR, CBNZ
	f.Fuzz(func(t *testing.T, code []byte, addr uint64) {
		if len(code) > maxCode {
			return
		}
		odd := func(callee uint64) bool { return callee&1 == 1 }
		for _, arch := range []string{"amd64", "arm64"} {
			begin := time.Now()
			facts, _ := walkCode(arch, code, addr, odd, odd)
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("%s: took %v", arch, took)
			}
			if len(facts) > maxFacts+8 {
				t.Errorf("%s: %d facts", arch, len(facts))
			}
			for _, x := range facts {
				for _, v := range []value{x.addr, x.val, x.old} {
					if v.depth < 0 || v.depth > maxDeref || v.off < -maxTypeSize || v.off > maxTypeSize {
						t.Errorf("%s: %+v", arch, v)
					}
				}
			}
		}
	})
}

// TestHostileFiles has inputs that would take too much of something.
func TestHostileFiles(t *testing.T) {
	exe, err := os.ReadFile(program(t, build{}))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	huge := bytes.Clone(exe)
	table := le.Uint64(huge[40:])
	for i := range uint64(le.Uint16(huge[60:])) {
		if typ := elf.SectionType(le.Uint32(huge[table+i*64+4:])); typ == elf.SHT_SYMTAB || typ == elf.SHT_PROGBITS {
			le.PutUint64(huge[table+i*64+32:], 1<<62)
		}
	}
	if _, err := Inspect(bytes.NewReader(huge)); err != nil {
		var refused *RefusedError
		if !errors.As(err, &refused) {
			t.Errorf("%v", err)
		}
	}
	shnum := bytes.Clone(exe)
	le.PutUint16(shnum[60:], 0xfeff)
	// The sections are left out then, as they are for the kernel: the program is one without symbols and debugging
	// information.
	if b, err := Inspect(bytes.NewReader(shnum)); err != nil || b.LayoutSource != pstate.LayoutTable || !b.Stripped {
		t.Errorf("a program that says that it has 65279 sections: %+v, %v", b, err)
	}
	// Debugging information that nests as deep as it is long, on which a recursive reader overflows its stack.
	abbrev := []byte{1, 0x11, 1, 0x03, 0x08, 0, 0, 2, 0x34, 1, 0, 0, 0} // unit with a name; variable with children and no attributes
	unit := append([]byte{0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8, 1}, "runtime\x00"...)
	unit = append(unit, "\x02runtime.schedt\x00"...)
	unit = append(unit, bytes.Repeat([]byte{2}, 8<<20)...)
	le.PutUint32(unit, uint32(len(unit)-4))
	if _, err := layoutFromSections(abbrev, nil, bytes.NewReader(unit)); err == nil {
		t.Error("nested debugging information accepted")
	}
}
