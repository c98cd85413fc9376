// Package fuzztest has what the fuzz targets share: a bound on what one input may cost. Only tests import it.
package fuzztest

import (
	"testing"
	"time"
)

// Small is the bound for parsers of text of some kilobytes. They take microseconds; the rest is for a busy machine, the
// race detector and the fuzzer's own instruments.
const Small = 2 * time.Second

// Bound begins to measure. What it gives fails the test if more than most of this process's CPU time has passed since:
// "defer fuzztest.Bound(t, fuzztest.Small, len(b))()". CPU time, because a machine that does other work beside
// stretches the time on the clock.
func Bound(t testing.TB, most time.Duration, size int) (end func()) {
	begun := CPUTime()
	return func() {
		t.Helper()
		if used := CPUTime() - begun; used > most {
			t.Errorf("an input of %d bytes took %v of CPU time, at most %v is allowed", size, used, most)
		}
	}
}

// Within runs do and fails the test if that took more than most: see Bound.
func Within(t testing.TB, most time.Duration, size int, do func()) {
	t.Helper()
	defer Bound(t, most, size)()
	do()
}
