package collector

import (
	"math"
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// What spares the kernel side reads of the target's memory, each of which costs the target as much as everything else an event needs. Where it isn't
// known to hold, the programs read.

// startProbe is the function of the Go runtime whose probe tells that a stop ends.
const startProbe = "startTheWorldWithSema"

// stopProbe is the function of the Go runtime whose probe tells that a stop begins.
const stopProbe = "stopTheWorldWithSema"

// never is a tick that does not come.
const never = uint64(math.MaxUint64)

// Ticks for which a stop or a GC that was going on when the probes came is waited for.
const (
	calmAfterProbes    = uint64(1e9) >> tickShift
	markingAfterSeen   = uint64(10e9) >> tickShift
	markingAfterProbes = uint64(3e9) >> tickShift
)

// expectStops tells the kernel side, just before the probe comes, that from then on it will see every stop.
func (o *observed) expectStops() {
	now := nowTick()
	atomic.StoreUint64(&o.shared.MarkingUntil, now+markingAfterProbes)
	atomic.StoreUint64(&o.shared.NoGcstopFrom, now+calmAfterProbes)
}

// expectNoStops takes that back.
func (o *observed) expectNoStops() {
	atomic.StoreUint64(&o.shared.NoGcstopFrom, never)
	atomic.StoreUint64(&o.shared.MarkingUntil, never)
}

// marking is said when a P is seen to run a mark worker at now: a GC goes on whose beginning the probes may not have seen.
func (o *observed) marking(now uint64) {
	if o.index == 0 {
		return
	}
	for until := atomic.LoadUint64(&o.shared.MarkingUntil); until < now+markingAfterSeen; until = atomic.LoadUint64(&o.shared.MarkingUntil) {
		if atomic.CompareAndSwapUint64(&o.shared.MarkingUntil, until, now+markingAfterSeen) {
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

// enterAddress makes the record of the P at an address to be found by that. Where both its places are taken by others it has to do without.
func (o *observed) enterAddress(slot int, addr uint64) {
	if slot > math.MaxUint16 {
		return
	}
	for try := range uint64(atTries) {
		place := &o.shared.P_places[(placeOf(addr)+try)%(1<<atShift)]
		if *place == 0 || int(*place) == slot {
			*place = uint16(slot)
			return
		}
	}
}
