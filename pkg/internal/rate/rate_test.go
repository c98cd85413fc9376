package rate

import (
	"math"
	"testing"
	"time"
)

func TestPeriodIsNeverNone(t *testing.T) {
	for hz, want := range map[float64]time.Duration{
		5: 200 * time.Millisecond, 60: time.Second / 60, 1000: time.Second / 60, 0.1: 10 * time.Second,
		1e-11: 10 * time.Second, math.SmallestNonzeroFloat64: 10 * time.Second,
		0: time.Second / 60, -3: time.Second / 60, math.Inf(1): time.Second / 60, math.Inf(-1): time.Second / 60,
		math.NaN(): time.Second / 60,
	} {
		if got := Period(hz); got != want {
			t.Errorf("%v Hz: %v, want %v", hz, got, want)
		}
	}
	if got := Clamp(1e-11, 5); got != Min {
		t.Errorf("clamped to %v, want %v", got, Min)
	}
}
