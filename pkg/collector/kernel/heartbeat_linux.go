package kernel

import (
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/p-scope/p-scope/pkg/collector/ledger"
)

// An agent that is stopped (SIGSTOP, a frozen cgroup), starved or stuck must not cost the targets anything. So its main
// loop says that it is alive each time it comes round, and the BPF programs leave at once when they have not been told
// for aliveFor (bpf/heartbeat.h). When the agent is back it knows from its own clock since when they have: what they
// were told last is what they went by.
const (
	AliveFor  = 5 * time.Second
	viewsWait = 300 * time.Millisecond // for the loop to notice that it was away: what is held then is out of date
)

// Heartbeat is what tells the kernel side that the agent is alive.
type Heartbeat struct {
	Shared   *ebpf.Variable // agent_alive_until; nil without eBPF
	until    atomic.Int64   // the same in the agent's memory, CLOCK_MONOTONIC; 0: the loop has not begun
	Resuming atomic.Bool    // the records are being brought up to date after a pause

	Pauses atomic.Uint64 // after which the loop came back
}

// Beat says that the agent is alive. It refuses if that comes too late, and gives the time since when the programs may
// have done nothing: then resumed has to be called once they are not to see any target, and only then they go on.
func (h *Heartbeat) Beat() (since int64, late bool) {
	until := h.until.Load()
	now := ledger.Monotonic()
	if until == 0 || now <= until {
		h.Set(now)
		// It may have been stopped between the look at the clock and the word to the kernel side.
		if until == 0 || ledger.Monotonic() <= until {
			return 0, false
		}
	}
	return until, true
}

// Set says that the agent was alive at now, CLOCK_MONOTONIC.
func (h *Heartbeat) Set(now int64) {
	until := now + int64(AliveFor)
	if h.Shared != nil {
		// It fails only where the variable is not mapped into memory, and load has seen that it is.
		_ = h.Shared.Set(uint64(until))
	}
	h.until.Store(until)
}

// Silent says whether what is held of the targets may be out of date, because nothing has been observed for a while and
// the loop has not noticed yet.
func (h *Heartbeat) Silent() bool {
	until := h.until.Load()
	return until != 0 && (h.Resuming.Load() || ledger.Monotonic() > until)
}

// Beyond says whether a tick lies beyond the time up to which targets are observed: the agent was stopped in the middle
// of what it does, and what it would say of the targets at that tick is not so. The loop notices when it comes round.
func (h *Heartbeat) Beyond(tick uint64) bool {
	until := h.until.Load()
	return until != 0 && int64(tick<<ledger.TickShift) > until
}

// Wait gives the loop a moment to bring up to date what is held, and says whether it is.
func (h *Heartbeat) Wait() bool {
	for limit := time.Now().Add(viewsWait); h.Silent(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			return false
		}
	}
	return true
}
