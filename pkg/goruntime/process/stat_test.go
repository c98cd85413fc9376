package process

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

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
