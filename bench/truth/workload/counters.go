package main

import (
	"encoding/json"
	"os"
	"runtime/debug"
	"time"
)

// counters are what the runtime itself says of the traced window. Reading them must not stop the world, or they would count themselves.
type counters struct {
	GCs   int64         `json:"gcs"`
	Pause time.Duration `json:"pauseNs"` // of all stops of those GCs: runtime/mstats.go, memstats.pause_total_ns
}

func count() (c counters) {
	var s debug.GCStats
	debug.ReadGCStats(&s)
	c.GCs, c.Pause = s.NumGC, s.PauseTotal
	return c
}

func (c counters) since(b counters) counters { return counters{c.GCs - b.GCs, c.Pause - b.Pause} }

func (c counters) print() { _ = json.NewEncoder(os.Stdout).Encode(c) }
