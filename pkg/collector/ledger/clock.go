package ledger

import (
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// A Tick is the kernel side's unit of time: 64 ns of CLOCK_MONOTONIC (bpf/types.h).
const (
	TickShift = kern.ScopeWordBitsTICK_SHIFT
	Tick      = time.Duration(1 << TickShift)
	SinceBits = kern.ScopeWordBitsSINCE_BITS
	SinceMask = 1<<SinceBits - 1
)

// Clock translates the kernel's ticks to Unix nanoseconds. The offset is kept steady against small corrections of the
// wall clock, so that intervals of one P neither overlap nor gape; a jump of more than a second (a clock set by hand, a
// resumed virtual machine) is followed.
type Clock struct{ offset atomic.Int64 }

// NewClock is one by the wall clock of now.
func NewClock() *Clock {
	c := &Clock{}
	c.offset.Store(wallMinusMono())
	return c
}

// origin is an instant of Go's monotonic clock, and CLOCK_MONOTONIC at it. They are the same clock
// (runtime/time_nofake.go, nanotime1), but only Go's is read without a system call.
var origin = func() (o struct {
	at   time.Time
	mono int64
}) {
	best := int64(1 << 62)
	for range 64 {
		a, at, b := readMonotonic(), time.Now(), readMonotonic()
		if b-a < best {
			best, o.at, o.mono = b-a, at, a+(b-a)/2
		}
	}
	return o
}()

// Monotonic is CLOCK_MONOTONIC, in nanoseconds.
func Monotonic() int64 { return origin.mono + int64(time.Since(origin.at)) }

// wallMinusMono reads the two clocks as closely together as it can in five tries.
func wallMinusMono() int64 {
	best, offset := int64(1<<62), int64(0)
	for range 5 {
		a := Monotonic()
		w := time.Now().UnixNano()
		b := Monotonic()
		if b-a < best {
			best, offset = b-a, w-(a+(b-a)/2)
		}
	}
	return offset
}

// FollowJump corrects the offset after the wall clock jumped.
func (c *Clock) FollowJump() (jumped bool) {
	now := wallMinusMono()
	if d := now - c.offset.Load(); d > int64(time.Second) || d < -int64(time.Second) {
		c.offset.Store(now)
		return true
	}
	return false
}

// Now is the present tick.
func Now() uint64 { return uint64(Monotonic()) >> TickShift }

// Unix translates a tick to Unix nanoseconds.
func (c *Clock) Unix(t uint64) int64 { return int64(t<<TickShift) + c.offset.Load() }

// Elapsed is the number of ticks from a word's since to now; 0 if since lies ahead (bpf/account.h has the same rule).
func Elapsed(now, word uint64) uint64 {
	d := (now - word) & SinceMask
	if d > SinceMask>>1 {
		return 0
	}
	return d
}

// Since is a word's since as a full tick, as seen at now.
func Since(now, word uint64) uint64 {
	return now + uint64(int64((word-now)<<(64-SinceBits))>>(64-SinceBits))
}
