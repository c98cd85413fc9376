package lack

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// FuzzHost gives the same bytes as each file that a host's state is read from.
func FuzzHost(f *testing.F) {
	f.Add([]byte("Name:\tx\nCapEff:\t000001ffffffffff\nSeccomp:\t2\n"))
	f.Add([]byte("none [integrity] confidentiality\n"))
	f.Add([]byte("-1\n"))
	root := f.TempDir()
	files := []string{"proc/self/status", LockdownPath, "proc/sys/kernel/perf_event_paranoid", BTFPath}
	for _, name := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, name := range files {
			if err := os.WriteFile(filepath.Join(root, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		fuzztest.Within(t, fuzztest.Small, len(b), func() {
			h := ReadHost(root)
			h.PerfForAdminsOnly()
			h.Held.Missing()
		})
	})
}
