package procfs

import (
	"os"
	"testing"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// FuzzProcFiles gives the same bytes as every file that is read of a process below /proc: its threads choose their
// names.
func FuzzProcFiles(f *testing.F) {
	for _, s := range []string{
		"1 (systemd) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 5 1 2 3",
		"1 (a) b) (c) R 0 1 1 0 -1 0 1 2 3 4 18446744073709551615 18446744073709551615 7 8 20 0 1 0 5 1 2 3",
		"Name:\tx\nTracerPid:\t5\nNSpid:\t4711\t17\t1\n", "18446744073709551615 2 3\n", "1 2 3 4",
	} {
		f.Add([]byte(s))
	}
	fs := FS(f.TempDir())
	if err := os.MkdirAll(fs.Path(1, "task/1"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, name := range []string{"stat", "status", "task/1/stat", "task/1/status", "task/1/schedstat"} {
			if err := os.WriteFile(fs.Path(1, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		fuzztest.Within(t, fuzztest.Small, len(b), func() {
			if s, err := fs.Stat(1); err == nil && s.CPU < 0 {
				t.Errorf("a process that used %v of CPU time", s.CPU)
			}
			if s, _, err := fs.ThreadState(1, 1); err == nil && s == pstate.NoThread {
				t.Error("a thread without a state")
			}
			if u := fs.ThreadSchedstat(1, 1); u.OnCPU < 0 || u.Waiting < 0 {
				t.Errorf("a thread that ran for %v and waited for %v", u.OnCPU, u.Waiting)
			}
			fs.NestedPID(1)
			fs.TracerOf(1, 1)
			fs.StatusNumber(1, "status", "TracerPid:")
		})
	})
}

func TestIdleTimesAreRead(t *testing.T) {
	if len(IdleTimes()) == 0 {
		t.Error("/proc/stat has no CPU")
	}
}
