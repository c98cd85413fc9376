//go:build linux

package history

import (
	"log/slog"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/confine"
	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/store"
)

// The child's descriptors; 0 to 2 are the usual ones.
const (
	samplesFD = 3
	requestFD = 4
)

// setup is the first value on the stream to the child.
type setup struct {
	Dir, Host, Version  string
	Interval, Retention time.Duration
	MaxBytes            int64 // as in store.Options
	MemoryLimit         int64 // bytes; 0: none
	LogLevel            slog.Level
	Confine             bool // give up what the child does not need
}

// second is one state of everything observed.
type second struct {
	Seq  uint64 // from 1 on, without gaps unless the agent had to drop some
	Due  int64  // Unix milliseconds
	Snap metrics.Snapshot
}

// report is what the child tells the agent: after each second that it has dealt with, and once a second while it opens
// the database.
type report struct {
	Acked      uint64 // the last second dealt with; it never has to be sent again
	Open       bool   // the database is open
	Samples    uint64 // of the last second
	Losses     map[string]uint64
	ClockSteps uint64
	Conditions []store.Condition
	CPU        float64 // seconds of CPU time used so far
	Resident   float64 // bytes
	Folded     uint64  // messages that it did not log one by one
	// Measures are what the child gave up; only in its first report.
	Measures []confine.Measure
	Reopen   bool // the child ends itself now and wants to be started again at once
}
