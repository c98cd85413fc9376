package cpufreq

import (
	"math"
	"testing"
	"testing/fstest"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// FuzzFiles gives what a driver of a CPU's frequency may write into its files.
func FuzzFiles(f *testing.F) {
	f.Add("2400000\n", "1200000 12\n2400000 34\n")
	f.Add("NaN", "1 18446744073709551615\n")
	f.Add("-1e308", "x")
	f.Fuzz(func(t *testing.T, frequency, times string) {
		const dir = "devices/system/cpu/cpu0/cpufreq/"
		r := NewReader("/nonexistent")
		r.root = fstest.MapFS{
			dir + "scaling_cur_freq":    {Data: []byte(frequency)},
			dir + "stats/time_in_state": {Data: []byte(times)},
		}
		fuzztest.Within(t, fuzztest.Small, len(frequency)+len(times), func() {
			for i := range 3 {
				cpus, err := r.Read(time.Unix(int64(i), 0))
				if err != nil {
					return
				}
				for _, c := range cpus {
					if !(c.Hertz >= 0) || math.IsInf(c.Hertz, 0) || len(c.Bands) > len(times)+1 {
						t.Errorf("%v Hz, %d bands", c.Hertz, len(c.Bands))
					}
					for _, b := range c.Bands {
						if b.Time < 0 || !(b.Hertz >= 0) || math.IsInf(b.Hertz, 0) {
							t.Errorf("%+v", b)
						}
					}
				}
			}
		})
	})
}
