package process

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// FuzzMappedFiles gives any bytes as the maps of a process.
func FuzzMappedFiles(f *testing.F) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(maps)
	f.Add([]byte("7f0000000000-7f0000001000 r-xp 00000000 08:01 42   /lib/a b (deleted)\n"))
	f.Add(binary.LittleEndian.AppendUint64([]byte("1-2 r-xp 0 0:0 1 /"), 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer fuzztest.Bound(t, fuzztest.Small, len(b))()
		files, _ := MappedFiles(bytes.NewReader(b))
		for _, m := range files {
			if m.Inode == 0 || !strings.HasPrefix(m.Path, "/") && m.Path != "" {
				t.Errorf("%+v is no file", m)
			}
			if p := m.PathFrom("/proc", 1); !strings.HasPrefix(p, "/proc/1/root") {
				t.Errorf("%q leads out of the process's root", p)
			}
		}
	})
}
