package collector

import (
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/link"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// Evidence is what the programs in the kernel have shown of a target, for who wants to know whether they work rather than what the target does. Snapshots
// have no part in it.
type Evidence struct {
	Changes uint64        // state changes of Ps that came through the ring
	WakeUps uint64        // hand-overs of a P to a thread, whose wait until it ran was measured
	Sampled time.Duration // what the samples stand for that found the target on a CPU with a P
	// StopProbes is how the probes of tier 1 are attached: one entry for each kind of link. None: they are not.
	StopProbes []string
}

// EvidenceOf gives what c has of a process. ok is false if it is not observed by eBPF.
func EvidenceOf(c Collector, pid int32) (e Evidence, ok bool) {
	own, isOwn := c.(*collect)
	if !isOwn || own.kernel == nil {
		return e, false
	}
	for _, o := range own.all() {
		if o.info.PID == pid && o.index != 0 {
			return o.evidence()
		}
	}
	return e, false
}

func (o *observed) evidence() (e Evidence, ok bool) {
	o.c.drain()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return e, false
	}
	e.Changes = o.received
	for _, h := range o.stops {
		e.Changes -= min(e.Changes, h.Count)
	}
	for _, p := range o.ps {
		for i := range p.rec.Samples {
			e.Sampled += time.Duration(atomic.LoadUint64(&p.rec.Samples[i])) * tick
		}
		for i := range p.rec.Wake {
			e.WakeUps += atomic.LoadUint64(&p.rec.Wake[i])
		}
	}
	kinds := map[string]bool{}
	for _, l := range o.links {
		kinds[kindOfLink(l)] = true
	}
	e.StopProbes = slices.Sorted(maps.Keys(kinds))
	return e, true
}

// kindOfLink says how a probe is attached, by what the kernel says of its link.
func kindOfLink(l any) string {
	told, ok := l.(interface{ Info() (*link.Info, error) })
	if !ok {
		return "shared multi-uprobe link"
	}
	info, err := told.Info()
	switch {
	case err != nil:
		return "perf event" // one that is no link: a kernel before 5.15
	case info.Type == link.UprobeMultiType:
		return "multi-uprobe link"
	case info.Type == link.PerfEventType:
		return "perf event"
	}
	return "link of type " + strconv.Itoa(int(info.Type))
}

// Programs names the BPF programs that an agent loads.
func Programs() ([]string, error) {
	spec, err := kern.LoadScope()
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(spec.Programs)), nil
}
