//go:build !unix

package fuzztest

import "time"

var begun = time.Now()

// CPUTime is the time on the clock, where the system does not say how much CPU time a process has taken in one call.
func CPUTime() time.Duration { return time.Since(begun) }
