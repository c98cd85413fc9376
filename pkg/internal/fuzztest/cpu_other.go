//go:build !unix

package fuzztest

import "time"

var begun = time.Now()

// cpuTime is the time on the clock, where the system does not say how much CPU time a process has taken in one call.
func cpuTime() time.Duration { return time.Since(begun) }
