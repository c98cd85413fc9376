package cpufreq

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var start = time.Unix(1_700_000_000, 0)

func write(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, "devices/system/cpu", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, r *Reader, after time.Duration) []CPU {
	t.Helper()
	cpus, err := r.Read(start.Add(after))
	if err != nil {
		t.Fatal(err)
	}
	return cpus
}

func same(t *testing.T, got any, want string) {
	t.Helper()
	if g := fmt.Sprint(got); g != want {
		t.Errorf("got  %s\nwant %s", g, want)
	}
}

func TestAHostWithoutFrequenciesHasNone(t *testing.T) {
	root := t.TempDir()
	r := NewReader(root)
	if _, err := r.Read(start); !errors.Is(err, ErrNone) {
		t.Errorf("no cpufreq: %v", err)
	}
	write(t, root, "cpu0/cpufreq/scaling_cur_freq", "<unknown>\n")
	if cpus, err := r.Read(start); !errors.Is(err, ErrNone) {
		t.Errorf("a frequency that is not known: %v %v", cpus, err)
	}
	if hz, _ := r.Present(); len(hz) > 0 {
		t.Errorf("present: %v", hz)
	}
}

func TestTimeInBands(t *testing.T) {
	root := t.TempDir()
	r := NewReader(root)
	// cpu0 with the kernel's own statistics, cpu10 without, cpu2 with nothing that can be read.
	write(t, root, "cpu0/cpufreq/scaling_cur_freq", "2400000\n")
	write(t, root, "cpu0/cpufreq/stats/time_in_state", "800000 1000\n2400000 200\n2450000 50\n")
	write(t, root, "cpu10/cpufreq/scaling_cur_freq", "1234567\n")
	write(t, root, "cpu2/cpufreq/scaling_cur_freq", "<unknown>\n")
	write(t, root, "cpufreq/policy0/scaling_cur_freq", "1\n")
	read(t, r, 0)
	cpus := read(t, r, 2*time.Second)
	same(t, cpus, "[{0 2.4e+09 [{8e+08 10s} {2.4e+09 2.5s}]} {10 1.234567e+09 [{1.2e+09 2s}]}]")
	same(t, cpus[0].Bands[1].Name(), "2.4GHz")
	hz, need := r.Present()
	same(t, []any{hz, need}, "[map[0:2.4e+09 10:1.234567e+09] true]")
}

// script is what a driver announced: one entry for each reading.
type script []map[float64]time.Duration

func (s *script) Since(int) (map[float64]time.Duration, bool) {
	now := (*s)[0]
	*s = (*s)[1:]
	return now, now != nil
}

func TestAnnouncedChangesWinOverReadings(t *testing.T) {
	root := t.TempDir()
	write(t, root, "cpu0/cpufreq/scaling_cur_freq", "3000000\n")
	r := NewReader(root)
	r.Follow(&script{{3e9: time.Hour}, {8e8: 900 * time.Millisecond, 3e9: 100 * time.Millisecond}, nil})
	same(t, read(t, r, 0), "[{0 3e+09 [{3e+09 0s}]}]") // what was before the first reading is nobody's
	same(t, read(t, r, time.Second), "[{0 3e+09 [{8e+08 900ms} {3e+09 100ms}]}]")
	// a driver that is silent: the reading counts
	same(t, read(t, r, 2*time.Second), "[{0 3e+09 [{8e+08 900ms} {3e+09 1.1s}]}]")
}
