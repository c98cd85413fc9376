package probes

import (
	"strconv"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
)

// stopReasons are the words of runtime.stwReason, in the order of its values. They have not changed from Go 1.21, which
// introduced the type, to Go 1.27 (runtime/proc.go, stwReasonStrings). TestStopReasons compares them with the sources
// of every toolchain it has.
var stopReasons = [...]string{
	"unknown",
	"GC mark termination",
	"GC sweep termination",
	"write heap dump",
	"goroutine profile",
	"goroutine profile cleanup",
	"all goroutines stack trace",
	"read mem stats",
	"AllThreadsSyscall",
	"GOMAXPROCS",
	"start trace",
	"stop trace",
	"CountPagesInUse (test)",
	"ReadMetricsSlow (test)",
	"ReadMemStatsSlow (test)",
	"PageCachePagesLeaked (test)",
	"ResetDebugLog (test)",
}

// StopReason gives the runtime's words for the reason with which stopTheWorldWithSema was called: its first argument, a
// uint8. A code that the Go version does not define yields "reason N". goVersion is as runtime.Version has it.
func StopReason(goVersion string, code uint8) string {
	v, ok := binary.ParseVersion(goVersion)
	if !ok || v.Minor < binary.OldestMinor || int(code) >= len(stopReasons) {
		return "reason " + strconv.Itoa(int(code))
	}
	return stopReasons[code]
}
