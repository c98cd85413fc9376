package target

import (
	"math"
	"testing"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

func TestStopped(t *testing.T) {
	for _, c := range []struct {
		name       string
		start, end uint64
		own        [2]uint8
		want       [2]uint64
	}{
		{"by the runtime", 100, 180, [2]uint8{0, 0}, [2]uint64{100, 180}},
		{"begun by our clock", 100, 180, [2]uint8{1, 0}, [2]uint64{110, 180}},
		{"ended by our clock", 100, 180, [2]uint8{0, 1}, [2]uint64{100, 170}},
		{"both", 100, 180, [2]uint8{1, 1}, [2]uint64{110, 170}},
		{"shorter than the way", 100, 105, [2]uint8{1, 1}, [2]uint64{105, 105}},
		{"shorter than both ways", 100, 115, [2]uint8{1, 1}, [2]uint64{110, 110}},
		{"no length", 100, 100, [2]uint8{1, 1}, [2]uint64{100, 100}},
		{"at the end of time", math.MaxUint64 - 5, math.MaxUint64, [2]uint8{1, 1},
			[2]uint64{math.MaxUint64, math.MaxUint64}},
	} {
		start, end := stopped(&kern.ScopeStopEvent{Start: c.start, End: c.end, StartByProbe: c.own[0],
			EndByProbe: c.own[1]}, 10)
		if got := [2]uint64{start, end}; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
