package account

import (
	"fmt"
	"math"
	"strconv"
)

// Result is what the checker saw of one run of the agent on one kernel as one user: a line of JSON behind ResultMark.
type Result struct {
	User   string `json:"user"`
	Kernel string `json:"kernel"` // release, as uname has it
	Arch   string `json:"arch"`
	// Paranoid is the setting kernel.perf_event_paranoid while the agent ran.
	Paranoid int    `json:"perf_event_paranoid"`
	Mode     string `json:"mode"`            // the agent's: ebpf or snapshot; empty: it did not come up
	Lacks    []Lack `json:"lacks,omitempty"` // what it says it lacks
	Table    Target `json:"table"`           // a stripped program of a known Go version
	Search   Target `json:"search"`          // one of a Go version that no table has
	Doctor   Doctor `json:"doctor"`
	History  bool   `json:"history"` // /api/v1/query knew the program
	// Log is the end of the agent's log, where something is not as it is with all privileges on the newest kernel.
	Log []string `json:"log,omitempty"`
	// Failed is what kept the check from being finished.
	Failed string `json:"failed,omitempty"`
}

// ResultMark begins the line.
const ResultMark = "@result "

// Lack is one thing that the agent says is not possible here.
type Lack struct {
	What string `json:"what"`
	Why  string `json:"why"`
	Fix  string `json:"fix"`
}

// Target is what was seen of one program, and what it says itself. Sums are over all Ps.
type Target struct {
	Source string `json:"source"` // ebpf, snapshot or refused
	Layout string `json:"layout"` // table or search
	Reason string `json:"reason,omitempty"`
	// Shares are of all Ps' time, by state, own and seen.
	Shares map[string]Share `json:"shares,omitempty"`
	// Seconds is the time of all Ps that the shares are of, OnCPU that of their threads on a CPU, which is what samples
	// divide.
	Seconds float64 `json:"seconds"`
	OnCPU   float64 `json:"on_cpu"`
	// SumError is how far the states of all Ps together are from the time that passed, as a share.
	SumError float64 `json:"sum_error"`
	Stops    *Stops  `json:"stops,omitempty"` // nil: no stop was ever shown
	// RuntimeStops is the runtime's own count of stops in the time for which Stops counts, RuntimeGC of those for the
	// GC.
	RuntimeStops Range `json:"runtime_stops"`
	RuntimeGC    Range `json:"runtime_gc_stops"`
	// WakeWaits is how many there were and their mean in seconds; nil: there is no such metric.
	WakeWaits *Waits `json:"wake_waits,omitempty"`
	// Queues are the depths of run queues, the global one first, of scrapes while Queued goroutines waited.
	Queues [][]float64 `json:"queues,omitempty"`
	// Lost and Reconciled are by reason, in the time observed.
	Lost       map[string]float64 `json:"lost,omitempty"`
	Reconciled map[string]float64 `json:"reconciled,omitempty"`
}

// Share is a share of time by the program's own account and as the agent has it.
type Share struct {
	Own  float64 `json:"own"`
	Seen float64 `json:"seen"`
}

// Range is a count that lies between two readings.
type Range struct {
	Least uint64 `json:"least"`
	Most  uint64 `json:"most"`
}

// Stops are those that the agent counted.
type Stops struct {
	GC  uint64 `json:"gc"`
	All uint64 `json:"all"`
	// ByReason is the same, as the agent names them.
	ByReason map[string]uint64 `json:"by_reason"`
}

// Waits are wake waits.
type Waits struct {
	N    uint64  `json:"n"`
	Mean float64 `json:"mean"`
}

// Doctor is what `pscope doctor --json` says, as the same user.
type Doctor struct {
	Code    int    `json:"code"`
	Verdict string `json:"verdict"`
	// Paranoid is the setting kernel.perf_event_paranoid while the agent ran.
	Paranoid int    `json:"perf_event_paranoid"`
	Mode     string `json:"mode"`
	// Stops is how its trial counted stops: "ok" or another result; empty where it did not try.
	Stops string `json:"stops,omitempty"`
	// Checks are all that are not ok, as "name: result: detail".
	Checks []string `json:"checks,omitempty"`
	Failed string   `json:"failed,omitempty"`
}

// String is one number where both readings say the same.
func (r Range) String() string {
	if r.Least == r.Most {
		return strconv.FormatUint(r.Least, 10)
	}
	return fmt.Sprintf("%d to %d", r.Least, r.Most)
}

// Depths are the sums of Queues.
func (t *Target) Depths() (sums []float64) {
	for _, q := range t.Queues {
		sum := 0.0
		for _, depth := range q {
			sum += depth
		}
		sums = append(sums, sum)
	}
	return sums
}

// samplesASecond is the agent's default, on each CPU.
const samplesASecond = 99

// SamplingError is the standard error of a state's share. On a CPU running, gc and syscall are told apart by samples,
// so that theirs are those of so many draws; idle is known from events.
func (t *Target) SamplingError(state string) float64 {
	n, all := t.OnCPU*samplesASecond, t.Seconds
	if state == "idle" || n == 0 || all == 0 {
		return 0
	}
	p := min(t.Shares[state].Own*all/t.OnCPU, 1)
	return math.Sqrt(p*(1-p)/n) * t.OnCPU / all
}
