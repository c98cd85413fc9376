package kernel

import (
	"math"
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
)

// What spares the kernel side reads of the target's memory, each of which costs the target as much as everything else
// an event needs. Where it isn't known to hold, the programs read.

// StartProbe is the function of the Go runtime whose probe tells that a stop ends.
const StartProbe = "startTheWorldWithSema"

// StopProbe is the function of the Go runtime whose probe tells that a stop begins.
const StopProbe = "stopTheWorldWithSema"

// Never is a tick that does not come.
const Never = uint64(math.MaxUint64)

// Ticks for which a stop or a GC that was going on when the probes came is waited for.
const (
	calmAfterProbes    = uint64(1e9) >> ledger.TickShift
	markingAfterSeen   = uint64(10e9) >> ledger.TickShift
	markingAfterProbes = uint64(3e9) >> ledger.TickShift
)

// ExpectStops tells the kernel side, just before the probe comes, that from then on it will see every stop.
func ExpectStops(t *kern.ScopeTarget) {
	now := ledger.Now()
	atomic.StoreUint64(&t.MarkingUntil, now+markingAfterProbes)
	atomic.StoreUint64(&t.NoGcstopFrom, now+calmAfterProbes)
}

// ExpectNoStops takes that back.
func ExpectNoStops(t *kern.ScopeTarget) {
	atomic.StoreUint64(&t.NoGcstopFrom, Never)
	atomic.StoreUint64(&t.MarkingUntil, Never)
}

// MarkWorkerSeen says that a P was seen to run a mark worker at the tick now: a GC goes on whose beginning the probes
// may not have seen.
func MarkWorkerSeen(t *kern.ScopeTarget, now uint64) {
	end := now + markingAfterSeen
	for until := atomic.LoadUint64(&t.MarkingUntil); until < end; until = atomic.LoadUint64(&t.MarkingUntil) {
		if atomic.CompareAndSwapUint64(&t.MarkingUntil, until, end) {
			return
		}
	}
}

const (
	atShift = kern.ScopeP_placeBoundsP_PLACES_SHIFT
	atTries = kern.ScopeP_placeBoundsP_PLACE_TRIES
)

// placeOf is p_place_of of bpf/walk.h.
func placeOf(addr uint64) uint64 { return addr * 0x9e3779b97f4a7c15 >> (64 - atShift) }

// EnterAddress makes the record of the P at an address to be found by that. Where both its places are taken by others
// it has to do without.
func EnterAddress(t *kern.ScopeTarget, slot int, addr uint64) {
	if slot > math.MaxUint16 {
		return
	}
	for try := range uint64(atTries) {
		place := &t.P_places[(placeOf(addr)+try)%(1<<atShift)]
		if *place == 0 || int(*place) == slot {
			*place = uint16(slot)
			return
		}
	}
}
