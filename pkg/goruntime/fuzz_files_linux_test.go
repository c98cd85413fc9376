package goruntime

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// smallELF is a program of one segment that holds everything, without sections, with data behind the headers.
func smallELF(machine elf.Machine, data []byte) []byte {
	var b bytes.Buffer
	head := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Entry: 0x401000, Phoff: 64, Ehsize: 64,
		Phentsize: 56, Phnum: 1,
		Shentsize: 64,
	}
	copy(head.Ident[:], "\x7fELF\x02\x01\x01")
	_ = binary.Write(&b, binary.LittleEndian, &head) // a buffer takes everything
	size := uint64(64 + 56 + len(data))
	_ = binary.Write(&b, binary.LittleEndian, &elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X), Vaddr: 0x400000, Filesz: size,
		Memsz: size, Align: 4096,
	})
	b.Write(data)
	return b.Bytes()
}

// FuzzELF gives any bytes as a program to Inspect, from a small one on: FuzzInspect changes little of large ones.
func FuzzELF(f *testing.F) {
	info := append([]byte("\xff Go buildinf:\x08\x02"), make([]byte, 16)...)
	info = append(info, "\x08go1.26.8\x30mod\tx\n"...)
	f.Add(smallELF(elf.EM_X86_64, info))
	f.Add(smallELF(elf.EM_AARCH64, append(info, pclntabFixture([]string{"runtime.mcall", "runtime.procresize"}, true)...)))
	f.Add(smallELF(elf.EM_386, []byte("UPX!")))
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
			if missing := bin.Layout.check(); missing != "" {
				t.Errorf("accepted without %s", missing)
			}
		})
	})
}

// FuzzVersion reads what a program says of its Go version.
func FuzzVersion(f *testing.F) {
	for _, s := range []string{"go1.26.8", "go1.27rc1 X:nocoverageredesign", "devel go1.28-abc Mon",
		"go1.99999999999999999999", "go1.21.0-X:a,b", "gccgo 12"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fuzztest.Within(t, fuzztest.Small, len(s), func() { _, _ = parseGoVersion(s) })
	})
}

// FuzzStat reads a process's stat file for its start time.
func FuzzStat(f *testing.F) {
	f.Add([]byte("1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 5 1 2 3"))
	root := f.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "1"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(root, "1", "stat"), b, 0o644); err != nil {
			t.Fatal(err)
		}
		fuzztest.Within(t, fuzztest.Small, len(b), func() { _, _ = startTimeIn(root, 1) })
	})
}
