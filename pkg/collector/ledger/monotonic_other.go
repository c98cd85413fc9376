//go:build !linux

package ledger

import "time"

var begun = time.Now()

// readMonotonic reads a clock that only runs forwards: elsewhere than on Linux there is no kernel side to agree with.
func readMonotonic() int64 { return int64(time.Since(begun)) }
