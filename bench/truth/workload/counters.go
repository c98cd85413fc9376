package main

import (
	"encoding/json"
	"os"

	"github.com/p-scope/p-scope/bench/pauses"
)

// counters are what the runtime itself says of the GC's stops in the traced window. Reading them must not stop the
// world, or they would count themselves.
type counters struct {
	AtLeast uint64  `json:"atLeast"` // so many stops
	AtMost  uint64  `json:"atMost"`
	Least   float64 `json:"least"` // of their sum, in ns
	Most    float64 `json:"most"`
}

func count() counters {
	sum := pauses.Read("/sched/pauses/total/gc:seconds")
	return counters{sum.N, sum.N, sum.Least, sum.Most}
}

// between is what happened in a window whose begin and end each lie between two readings: on a busy host other threads
// run between a reading and the next line.
func between(before, begun, ending, ended counters) counters {
	return counters{ending.AtLeast - begun.AtLeast, ended.AtMost - before.AtMost, ending.Least - begun.Least,
		ended.Most - before.Most}
}

func (c counters) print() { _ = json.NewEncoder(os.Stdout).Encode(c) }
