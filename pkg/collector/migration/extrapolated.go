package migration

import "time"

// extrapolated is a count known from windows only.
//
// A window stands for the time since the one before: that time was chosen before anything was known of the window, so
// that a target's busy moments count for no more than their share of time. Between windows the count goes on at the
// last window's rate. Where that was too much, it rests until what is known has come up to it: it never decreases, and
// in the long run it is the sum over the windows.
type extrapolated struct{ known, shown, rate float64 }

// rest ends the extrapolation until the next window.
func (e *extrapolated) rest(since time.Duration) {
	e.at(since)
	e.known += e.rate * since.Seconds()
	e.rate = 0
}

// close adds a window of this rate that stands for the time since the last.
func (e *extrapolated) close(rate float64, since time.Duration) {
	e.at(since)
	e.known += rate * since.Seconds()
	e.rate = rate
	e.shown = max(e.shown, e.known)
}

// at is the count some time after the last window.
func (e *extrapolated) at(since time.Duration) float64 {
	e.shown = max(e.shown, e.known+e.rate*since.Seconds())
	return e.shown
}
