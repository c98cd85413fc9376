// Package pauses reads what a Go program itself counts of its stops of the world.
package pauses

import (
	"math"
	"runtime/metrics"
)

// Sum is of stops by the buckets they fell into: each says how long a stop was at least and at most.
type Sum struct {
	N           uint64
	Least, Most float64 // of their lengths together, in ns; Most is math.MaxFloat64 if a bucket has no upper bound
}

// Read gives the stops of this process so far by one of the histograms /sched/pauses/total/{gc,other}:seconds, from the
// decision to stop until the world runs (runtime/proc.go, startTheWorldWithSema). It does not stop the world.
func Read(histogram string) (sum Sum) {
	s := []metrics.Sample{{Name: histogram}}
	metrics.Read(s)
	h := s[0].Value.Float64Histogram()
	for i, n := range h.Counts {
		if n == 0 {
			continue
		}
		sum.N += n
		sum.Least += float64(n) * max(h.Buckets[i], 0) * 1e9
		if most := h.Buckets[i+1]; !math.IsInf(most, 1) {
			sum.Most += float64(n) * most * 1e9
		} else {
			sum.Most = math.MaxFloat64
		}
	}
	return sum
}
