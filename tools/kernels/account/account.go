// Package account is what the observed program of tools/kernels says of itself, and what the checker asks it for: one
// line of JSON an answer.
package account

// The lines the program takes on its standard input. Each is answered by one line of JSON.
const (
	Count = "count" // answered by Counters
	// "mixed SECONDS": bursts, collections, explicit stops and system calls one after the other; answered by Times
	Mixed = "mixed"
	Queue = "queue" // "queue SECONDS": more goroutines that compute than there are Ps; answered by Times
)

// Ps is the program's GOMAXPROCS, Queued how many goroutines wait for one of them while it does Queue.
const (
	Ps        = 2
	computing = 8
	Queued    = computing - Ps
)

// Computing is how many goroutines compute while the program does Queue.
const Computing = computing

// Counters are the runtime's own counts of stops of the world so far, from the histograms /sched/pauses/total of
// runtime/metrics.
type Counters struct {
	GC    uint64 `json:"gc"`
	Other uint64 `json:"other"`
}

// Times is what happened between two ends of garbage collections, by the runtime's own account of its Ps (/cpu/classes
// of runtime/metrics, which is brought up to date when a collection ends), and by the program's own clock. All in
// seconds of Ps.
type Times struct {
	Wall float64 `json:"wall"` // by the clock, of all Ps
	Idle float64 `json:"idle"` // no M has the P
	GC   float64 `json:"gc"`   // a worker of the GC's marking runs
	// Calls is the time in read(2) by the program's own clock.
	Calls float64 `json:"calls"`
}
