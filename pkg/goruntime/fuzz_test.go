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

	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
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

// FuzzInspect patches a real program in places that matter and gives it to Inspect, which must answer or refuse: never
// panic or run away. The input is a list of patches: region, offset in it (3 bytes), number of bytes (at most 15),
// bytes.
func FuzzInspect(f *testing.F) {
	type base struct {
		data    []byte
		regions [][2]int64
	}
	load := sync.OnceValues(func() ([]base, error) {
		var bases []base
		for _, b := range []fixtures.Build{
			{}, {Flags: []string{"-ldflags=-s -w", "-buildmode=pie"}}, {Flags: []string{"-ldflags=-s -w"}},
		} {
			exe := fixtures.Program(f, b)
			if len(bases) == 2 {
				exe = fixtures.Renamed(f, exe, fixtures.BuildVersion(f, exe)) // the layout is searched for
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
	f.Add(uint8(1), []byte{1, 0, 0, 32, 8, 255, 255, 255, 255, 255, 255, 255, 127})        // a segment without end
	f.Add(uint8(0), []byte{2, 0, 0, 96, 8, 255, 255, 255, 255, 255, 255, 255, 127})        // a section without end
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
		if missing := bin.Layout.Missing(); missing != "" {
			t.Errorf("accepted without %s", missing)
		}
	})
}

// FuzzELF gives any bytes as a program to Inspect, from a small one on: FuzzInspect changes little of large ones.
func FuzzELF(f *testing.F) {
	info := append([]byte("\xff Go buildinf:\x08\x02"), make([]byte, 16)...)
	info = append(info, "\x08go1.26.8\x30mod\tx\n"...)
	f.Add(fixtures.ELF(elf.EM_X86_64, info))
	table := fixtures.FuncTable([]string{"runtime.mcall", "runtime.procresize"}, true)
	f.Add(fixtures.ELF(elf.EM_AARCH64, append(info, table...)))
	f.Add(fixtures.ELF(elf.EM_386, []byte("UPX!")))
	f.Add([]byte("\x7fELF\x01\x02\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxFuzzInput {
			return
		}
		fuzztest.Within(t, 10*time.Second, len(b), func() {
			bin, err := inspect(bytes.NewReader(b)) // not Inspect, which would hide panics
			if err != nil {
				_ = err.Error()
				return
			}
			if missing := bin.Layout.Missing(); missing != "" {
				t.Errorf("accepted without %s", missing)
			}
		})
	})
}

// TestHostileFiles has inputs that would take too much of something.
func TestHostileFiles(t *testing.T) {
	exe, err := os.ReadFile(fixtures.Program(t, fixtures.Build{}))
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
		var refused *refusal.Error
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
}
