package collector

import (
	"errors"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/target"
)

// maxDrain bounds how many events one drain takes, so that a flood can't keep the agent from its snapshots.
const maxDrain = 200_000

// quickShare is the part of the ring that the events of one drain must have filled for the next one to come sooner.
// What all targets may send within their budget between two snapshots is a fifth of that.
const quickShare = 8

// drain takes what the ring buffer holds and refills the budgets. The kernel side never wakes the agent; this is called
// on a clock, and says whether it should be called sooner the next time.
func (c *collect) drain() (quickly bool) {
	k := c.kernel
	if k == nil {
		return false
	}
	c.drainMu.Lock()
	defer c.drainMu.Unlock()
	byIndex := c.indexed()
	k.Ring.SetDeadline(time.Unix(1, 0))
	taken, bytes := 0, 0
	for ; taken < maxDrain; taken++ {
		if err := k.Ring.ReadInto(&c.record); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, ringbuf.ErrClosed) {
				c.o.Log.Error("read the ring buffer", "err", err)
			}
			break
		}
		raw := c.record.RawSample
		bytes += len(raw)
		if len(raw) == 0 {
			continue
		}
		switch kern.ScopeEventKind(raw[0]) {
		case kern.ScopeEventKindEVENT_INTERVAL:
			if e := eventOf[kern.ScopeIntervalEvent](raw); e != nil {
				c.interval(byIndex, e)
			}
		case kern.ScopeEventKindEVENT_STOP:
			if e := eventOf[kern.ScopeStopEvent](raw); e != nil {
				c.stop(byIndex, e)
			}
		case kern.ScopeEventKindEVENT_EXEC:
			if e := eventOf[kern.ScopeExecEvent](raw); e != nil {
				c.found.Executed(int32(e.Tgid))
			}
		}
	}
	c.refill(byIndex, time.Now())
	return bytes > c.o.RingBytes/quickShare || c.watched()
}

// eventOf gives the event in a record, nil if it is too short.
func eventOf[T any](raw []byte) *T {
	var zero T
	if len(raw) < int(unsafe.Sizeof(zero)) {
		return nil
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(raw)))
}

// expected is the target in a place; one that came while the ring was being read is in the newer list only.
func (c *collect) expected(byIndex indexed, index uint32) *target.Target {
	if o := byIndex.at(index); o != nil {
		return o
	}
	return c.indexed().at(index)
}

func (c *collect) interval(byIndex indexed, e *kern.ScopeIntervalEvent) {
	if int(e.Slot) >= len(c.kernel.Records) {
		c.orphans.Add(1)
		return
	}
	r := &c.kernel.Records[e.Slot]
	o := c.expected(byIndex, r.Target)
	if o == nil {
		c.orphans.Add(1)
		return
	}
	o.AddInterval(int(r.Id), e)
}

func (c *collect) stop(byIndex indexed, e *kern.ScopeStopEvent) {
	o := c.expected(byIndex, e.Target)
	if o == nil {
		c.orphans.Add(1)
		return
	}
	o.AddStop(e)
}
