package kern

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/p-scope/p-scope/pkg/cpufreq"
)

// announce runs the program in the kernel as the tracepoint would.
func announce(t *testing.T, f *Follower, cpu, khz uint64) {
	t.Helper()
	if _, err := f.objs.CpuFrequency.Run(&ebpf.RunOptions{Context: []uint64{khz, cpu}}); err != nil {
		t.Fatal(err)
	}
}

func TestTimesBetweenAnnouncedChanges(t *testing.T) {
	f, err := load(map[int]float64{0: 2.4e9, 3: 1e9})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if times, ok := f.Since(0); ok {
		t.Errorf("nothing was announced, yet: %v", times)
	}
	announce(t, f, 0, 800_000)
	announce(t, f, 0, 3_100_000)
	announce(t, f, 0, 99_000_000) // above all bands: the last one
	announce(t, f, 7, 1_000_000)  // a CPU that was not there
	announce(t, f, 2, 1_000_000)  // one that was offline: known from here on

	times, ok := f.Since(0)
	if !ok || len(times) != 4 {
		t.Fatalf("%v %v", times, ok)
	}
	var sum time.Duration
	for _, band := range []float64{2.4e9, 8e8, 3.1e9, 12.7e9} {
		if times[band] <= 0 {
			t.Errorf("no time at %v: %v", band, times)
		}
		sum += times[band]
	}
	if total := time.Duration(f.clock() - f.cpus[0].Born); sum > total {
		t.Errorf("%v in bands within %v", sum, total)
	}
	if times, ok := f.Since(0); ok {
		t.Errorf("a second call without a change: %v", times)
	}
	if _, ok := f.Since(2); !ok {
		t.Error("CPU 2 was announced")
	}
	if times, ok := f.Since(7); ok {
		t.Errorf("CPU 7: %v", times)
	}
}

func TestAttaches(t *testing.T) {
	f, err := Follow(nil)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

var _ cpufreq.Changes = (*Follower)(nil)
