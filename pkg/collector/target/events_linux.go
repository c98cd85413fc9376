package target

import (
	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/goruntime/probes"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// AddInterval takes in a closed interval of the P with this number, as the kernel side sent it.
func (o *Target) AddInterval(p int, e *kern.ScopeIntervalEvent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.received++
	if o.closed || p >= len(o.ps) || e.State >= pstate.NumStates || e.Thread >= pstate.NumThreadStates {
		o.lost[loss.BadEvent]++
		return
	}
	o.keep(o.ps[p], ledger.Segment{
		State: pstate.State(e.State), Thread: pstate.ThreadState(e.Thread), Start: e.Start, End: e.End,
	})
}

// stopped is from when to when, in ticks, a stop lasted that does not end before it begins. Times that are our own lie
// outside of the runtime's by the way out of the first probe's trap and the way into the last one's.
func stopped(e *kern.ScopeStopEvent, way uint64) (start, end uint64) {
	start, end = e.Start, e.End
	if e.StartByProbe != 0 {
		start += min(way, end-start)
	}
	if e.EndByProbe != 0 {
		end -= min(way, end-start)
	}
	return start, end
}

// AddStop takes in a stop of the world, as the kernel side sent it.
func (o *Target) AddStop(e *kern.ScopeStopEvent) {
	clock := o.env.Clock
	if e.End < e.Start {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.received++
		o.lost[loss.BadEvent]++
		return
	}
	start, end := stopped(e, uint64(o.kernel.TrapCost()/2)>>ledger.TickShift)
	s := pstate.Stop{
		Start:  clock.Unix(start),
		End:    clock.Unix(end),
		Reason: probes.StopReason(o.bin.GoVersion, uint8(e.Reason)),
	}
	for p, after := range e.After {
		if after > 0 && p < int(e.N_ps) {
			s.Arrivals = append(s.Arrivals, pstate.Arrival{P: int32(p), At: clock.Unix(e.Start + uint64(after) - 1)})
		}
	}
	if e.Slowest >= int32(len(e.After)) {
		s.Arrivals = append(s.Arrivals, pstate.Arrival{P: e.Slowest, At: clock.Unix(e.Start + uint64(e.SlowestAfter))})
	}
	o.mu.Lock()
	o.received++
	h := o.stops[s.Reason]
	h.Observe(s.Duration())
	o.stops[s.Reason] = h
	closed := o.closed
	o.mu.Unlock()
	if !closed { // the sink knows of its end
		o.env.Sink.AppendStop(o.info.Key, s)
	}
}
