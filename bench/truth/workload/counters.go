package main

import (
	"encoding/json"
	"math"
	"os"
	"runtime/metrics"
)

// counters are what the runtime itself says of the GC's stops in the traced window. Reading them must not stop the world, or they would count themselves.
type counters struct {
	// By /sched/pauses/total/gc:seconds, from the decision to stop until the world runs (runtime/proc.go, startTheWorldWithSema). Its buckets say of each how long it was
	// at least and at most.
	AtLeast uint64  `json:"atLeast"` // so many stops
	AtMost  uint64  `json:"atMost"`
	Least   float64 `json:"least"` // of their sum, in ns
	Most    float64 `json:"most"`
}

func count() (c counters) {
	s := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(s)
	h := s[0].Value.Float64Histogram()
	for i, n := range h.Counts {
		if n == 0 {
			continue
		}
		c.AtLeast += n
		c.Least += float64(n) * max(h.Buckets[i], 0) * 1e9
		if most := h.Buckets[i+1]; !math.IsInf(most, 1) {
			c.Most += float64(n) * most * 1e9
		} else {
			c.Most = math.MaxFloat64
		}
	}
	c.AtMost = c.AtLeast
	return c
}

// between is what happened in a window whose begin and end each lie between two readings: on a busy host other threads run between a reading and the next line.
func between(before, begun, ending, ended counters) counters {
	return counters{ending.AtLeast - begun.AtLeast, ended.AtMost - before.AtMost, ending.Least - begun.Least, ended.Most - before.Most}
}

func (c counters) print() { _ = json.NewEncoder(os.Stdout).Encode(c) }
