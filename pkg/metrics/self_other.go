//go:build !linux

package metrics

// Self gives nothing: the agent runs on Linux only.
func Self() map[string]float64 { return nil }
