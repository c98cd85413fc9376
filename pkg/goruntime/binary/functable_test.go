package binary

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// maxFuzzInput bounds the inputs: what goes wrong with large ones goes wrong with small ones.
const maxFuzzInput = 1 << 20

// tableFile is a file of one segment at 0x10000.
func tableFile(contents []byte, arm bool) *File {
	f := &File{Arch: "amd64", r: bytes.NewReader(contents), le: binary.LittleEndian, elf: &elf.File{}}
	if arm {
		f.Arch = "arm64"
	}
	f.elf.Progs = []*elf.Prog{{ProgHeader: elf.ProgHeader{
		Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_W | elf.PF_X, Vaddr: 0x10000,
		Filesz: uint64(len(contents)), Memsz: uint64(len(contents)),
	}}}
	return f
}

// FuzzPclntab feeds broken function tables to the look-up in stripped programs.
func FuzzPclntab(f *testing.F) {
	names := []string{"main.main", "runtime.procresize", "runtime.mcall", "crosscall2"}
	f.Add(fixtures.FuncTable(names, false), false)
	f.Add(fixtures.FuncTable(names, true), true)
	f.Fuzz(func(t *testing.T, table []byte, arm bool) {
		defer fuzztest.Bound(t, 10*time.Second, len(table))()
		if len(table) > maxFuzzInput {
			return
		}

		ft, err := OpenFuncTable(tableFile(table, arm))
		if err != nil {
			return
		}
		wanted := map[string]bool{"runtime.procresize": true, "runtime.mcall": true}
		funcs, err := ft.Lookup(wanted)
		if err == nil && len(funcs) > len(wanted) {
			t.Error("found more than was wanted")
		}
		ft.HasFunc("crosscall2")
	})
}

func TestPclntabFixture(t *testing.T) {
	for _, arm := range []bool{false, true} {
		table := fixtures.FuncTable([]string{"a", "runtime.mcall", "runtime.procresize", "z"}, arm)
		ft, err := OpenFuncTable(tableFile(table, arm))
		if err != nil {
			t.Fatal(err)
		}
		funcs, err := ft.Lookup(map[string]bool{"runtime.procresize": true, "runtime.mcall": true,
			"runtime.gone": true})
		if err != nil || len(funcs) != 2 || funcs["runtime.mcall"].Addr != 0x10000+64 ||
			funcs["runtime.procresize"].Addr != 0x10000+128 ||
			funcs["runtime.procresize"].Size != 64 {
			t.Errorf("%+v, %v", funcs, err)
		}
		if !ft.HasFunc("runtime.mcall") || !ft.HasFunc("z") || ft.HasFunc("mcall") {
			t.Error("names are not told apart")
		}
	}
}
