//go:build !linux

package collector

import "errors"

// New fails: what it observes is Linux.
func New(Options) (Collector, error) {
	return nil, errors.New("the Go scheduler can be observed from outside on Linux only: run the agent there and " +
		"point " +
		"the data source at it")
}
