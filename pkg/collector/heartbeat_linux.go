package collector

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
	aliveFor  = 5 * time.Second
	viewsWait = 300 * time.Millisecond // for the loop to notice that it was away: what is held then is out of date
)

// heartbeat is what tells the kernel side that the agent is alive.
type heartbeat struct {
	shared   *ebpf.Variable // agent_alive_until; nil without eBPF
	until    atomic.Int64   // the same in the agent's memory, CLOCK_MONOTONIC; 0: the loop has not begun
	resuming atomic.Bool    // the records are being brought up to date after a pause

	pauses atomic.Uint64 // after which the loop came back
}

// beat says that the agent is alive. It refuses if that comes too late, and gives the time since when the programs may
// have done nothing: then resumed has to be called once they are not to see any target, and only then they go on.
func (h *heartbeat) beat() (since int64, late bool) {
	until := h.until.Load()
	now := ledger.Monotonic()
	if until == 0 || now <= until {
		h.set(now)
		// It may have been stopped between the look at the clock and the word to the kernel side.
		if until == 0 || ledger.Monotonic() <= until {
			return 0, false
		}
	}
	return until, true
}

func (h *heartbeat) set(now int64) {
	until := now + int64(aliveFor)
	if h.shared != nil {
		// It fails only where the variable is not mapped into memory, and load has seen that it is.
		_ = h.shared.Set(uint64(until))
	}
	h.until.Store(until)
}

// silent says whether what is held of the targets may be out of date, because nothing has been observed for a while and
// the loop has not noticed yet.
func (h *heartbeat) silent() bool {
	until := h.until.Load()
	return until != 0 && (h.resuming.Load() || ledger.Monotonic() > until)
}

// beyond says whether a tick lies beyond the time up to which targets are observed: the agent was stopped in the middle
// of what it does, and what it would say of the targets at that tick is not so. The loop notices when it comes round.
func (h *heartbeat) beyond(tick uint64) bool {
	until := h.until.Load()
	return until != 0 && int64(tick<<ledger.TickShift) > until
}

// wait gives the loop a moment to bring up to date what is held, and says whether it is.
func (h *heartbeat) wait() bool {
	for limit := time.Now().Add(viewsWait); h.silent(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			return false
		}
	}
	return true
}
