// Package rate is the one place that says how often a viewer may be told something.
package rate

import "time"

// The lowest and the highest rate, in hertz. Below the lowest a period soon is longer than a time.Duration can hold
// (292 years at 1e-10 Hz), which turns negative, and a wait for it into none.
const (
	Min = 0.1
	Max = 60
)

// Clamp brings a rate between Min and most; 0 and what is no number is most.
func Clamp(hz, most float64) float64 {
	if !(hz > 0) || hz > most {
		return most
	}
	return max(hz, Min)
}

// Period is the time between two messages at a rate, which is clamped to Min and Max.
func Period(hz float64) time.Duration { return time.Duration(float64(time.Second) / Clamp(hz, Max)) }
