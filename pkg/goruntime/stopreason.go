package goruntime

import "strconv"

// stopReasons are the words of runtime.stwReason, in the order of its values. They have not changed from Go 1.21, which introduced the type,
// to Go 1.27 (runtime/proc.go, stwReasonStrings); TestStopReasons compares them with the sources of every toolchain it has.
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

// StopReason gives the runtime's words for the reason code that stopTheWorldWithSema was called with (its first argument, a uint8). A code the
// Go version does not define yields "reason N", so that it stays distinguishable; goVersion is as in [Binary.GoVersion].
func StopReason(goVersion string, code uint8) string {
	v, ok := parseGoVersion(goVersion)
	if !ok || v.minor < OldestMinor || int(code) >= len(stopReasons) {
		return "reason " + strconv.Itoa(int(code))
	}
	return stopReasons[code]
}
