package procfs

import (
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

func TestParseStat(t *testing.T) {
	line := "4242 (a (b) c) D 1 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 987654 1 2 3"
	s, err := ParseStat([]byte(line))
	if err != nil || s.Comm != "a (b) c" || s.State != 'D' || s.Flags != 4194560 || s.StartTime != 987654 ||
		s.Size != 1 {
		t.Errorf("%q gives %+v, %v", line, s, err)
	}
	for _, bad := range []string{"", "1", "1 (a", "1 (a) R", ") (", "1 (a) R 1 1 1 0 -1 x 1 2 3 4 5 6 7 8 20 0 9 " +
		"0 1 2"} {
		if _, err := ParseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a stat line", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (systemd) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 5 1 2 3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer fuzztest.Bound(t, fuzztest.Small, len(b))()
		if s, err := ParseStat(b); err == nil && len(s.Comm) > len(b) {
			t.Errorf("%q gives a longer command %q", b, s.Comm)
		}
	})
}

func TestIdleTimes(t *testing.T) {
	got := ParseIdleTimes("cpu  5 5 5 700 30 1 1 1 0 0\n" + "cpu0 1 2 3 400 10 0 0 0 0 0\n" +
		"cpu7 1 2 3 300 20 0 0 0 0 0\n" + "cpu8 1 2\n" + "cpux 1 2 3 4 5\n" + "intr 5 6 7 8 9 1\n")
	if len(got) != 2 || got[0] != 4100*time.Millisecond || got[7] != 3200*time.Millisecond {
		t.Errorf("%v", got)
	}
}

// FuzzIdleTimes reads /proc/stat.
func FuzzIdleTimes(f *testing.F) {
	f.Add("cpu  5 5 5 700 30 1 1 1 0 0\ncpu0 1 2 3 400 10 0 0 0 0 0\ncpu-1 1 2 3 9999999999999999 9 9\n")
	f.Fuzz(func(t *testing.T, stat string) {
		fuzztest.Within(t, fuzztest.Small, len(stat), func() {
			for cpu, idle := range ParseIdleTimes(stat) {
				if cpu < 0 || idle < 0 {
					t.Errorf("CPU %d was idle for %v", cpu, idle)
				}
			}
		})
	})
}
