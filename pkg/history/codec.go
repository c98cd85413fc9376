//go:build linux

package history

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/p-scope/p-scope/pkg/cpufreq"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// maxSecond is the most that one second may take on the stream; 1,000 processes of 8 Ps take some 4 MB.
const maxSecond = 64 << 20

var (
	errCut   = errors.New("a second on the history's stream is cut short or damaged")
	errLarge = fmt.Errorf("a second of history takes more than %d MiB", maxSecond>>20)
)

// writeSecond writes a second to the stream, its length in front. buf is reused from call to call. After errLarge the
// stream is as it was.
func writeSecond(w io.Writer, s *second, buf *[]byte) error {
	c := coder{buf: append((*buf)[:0], 0, 0, 0, 0)}
	c.second(s)
	*buf = c.buf
	n := len(c.buf) - 4
	if n > maxSecond {
		return errLarge
	}
	binary.LittleEndian.PutUint32(c.buf, uint32(n))
	_, err := w.Write(c.buf)
	return err
}

// readSecond reads what writeSecond has written.
func readSecond(r *bufio.Reader, s *second, buf *[]byte) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := int(binary.LittleEndian.Uint32(head[:]))
	if n > maxSecond {
		return errCut
	}
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	c := coder{buf: (*buf)[:n], decode: true}
	if _, err := io.ReadFull(r, c.buf); err != nil {
		return err
	}
	c.second(s)
	if c.err == nil && len(c.buf) > 0 {
		return errCut
	}
	return c.err
}

// coder puts values into buf, or, where decode is set, takes them out of it. Each function here takes a pointer and
// does either, so that what is written and what is read can't differ. After an error nothing is changed any more.
type coder struct {
	buf    []byte
	decode bool
	err    error
}

func (c *coder) second(s *second) {
	c.uint(&s.Seq)
	number(c, &s.Due)
	each(c, &s.Snap.Views, c.view)
	each(c, &s.Snap.Targets, c.target)
	c.text(&s.Snap.Mode)
	keyed(c, &s.Snap.Lost, c.uint)
	keyed(c, &s.Snap.Self, c.float)
	each(c, &s.Snap.CPUs, func(cpu *cpufreq.CPU) {
		c.text(&cpu.CPU)
		c.float(&cpu.Hertz)
		each(c, &cpu.Bands, func(b *cpufreq.Band) {
			c.float(&b.Hertz)
			number(c, &b.Time)
		})
	})
}

func (c *coder) target(t *pstate.Target) {
	number(c, &t.PID)
	c.uint(&t.StartTime)
	for _, s := range []*string{&t.Runtime, &t.Process, &t.Exe, &t.Cmdline, &t.GoVersion, &t.Module,
		(*string)(&t.Source), (*string)(&t.Layout), &t.Reason, &t.Container, &t.Pod, &t.Namespace, &t.Cgroup} {
		c.text(s)
	}
	c.time(&t.Started)
}

func (c *coder) view(v *pstate.TargetView) {
	c.target(&v.Target)
	number(c, &v.At)
	number(c, &v.GOMAXPROCS)
	number(c, &v.GlobalRunq)
	c.uint(&v.GlobalRunqLooks)
	c.uint(&v.GlobalRunqSum)
	each(c, &v.Ps, c.p)
	each(c, &v.Threads, c.thread)
	number(c, &v.ThreadsAt)
	keyed(c, &v.StopHist, c.histogram)
	keyed(c, &v.Lost, c.uint)
	keyed(c, &v.Reconciled, c.uint)
	keyed(c, &v.ProbeTime, func(d *time.Duration) { number(c, d) })
	c.bool(&v.Governor.Governed)
	number(c, &v.Governor.Level)
	c.float(&v.Governor.Share)
	c.float(&v.Governor.Observed)
	c.bool(&v.Migrations.Counted)
	number(c, &v.Migrations.Watched)
	c.float(&v.Migrations.Known)
	if c.optional(v.Cgroup != nil) {
		if c.decode {
			v.Cgroup = new(pstate.Cgroup)
		}
		c.cgroup(v.Cgroup)
	}
	for _, s := range []*pstate.Suspension{&v.StoppedBy, &v.FrozenBy} {
		number(c, &s.By)
		number(c, &s.Tracer)
		c.text(&s.TracerName)
		c.text(&s.Cgroup)
		number(c, &s.At)
	}
	number(c, &v.Paused)
}

func (c *coder) p(p *pstate.PView) {
	number(c, &p.P)
	number(c, &p.State)
	number(c, &p.Thread)
	number(c, &p.Since)
	number(c, &p.TID)
	number(c, &p.RunqDepth)
	c.uint(&p.SchedTick)
	c.uint(&p.SyscallTick)
	for s := range p.Time {
		numbers(c, p.Time[s][:])
	}
	number(c, &p.Uninterruptible)
	for s := range p.Transitions {
		numbers(c, p.Transitions[s][:])
	}
	c.histogram(&p.WakeWait)
	number(c, &p.StopTime)
	numbers(c, p.RunqHist[:])
	c.uint(&p.RunqSum)
	c.uint(&p.RunqIdle)
	c.uint(&p.RunqIdleSum)
	c.uint(&p.Migrations)
	number(c, &p.FirstSeen)
}

func (c *coder) thread(t *pstate.ThreadView) {
	number(c, &t.TID)
	c.text(&t.Comm)
	number(c, &t.P)
	number(c, &t.State)
	number(c, &t.Since)
	numbers(c, t.Time[:])
}

func (c *coder) histogram(h *pstate.Histogram) {
	numbers(c, h.Buckets[:])
	number(c, &h.Sum)
	c.uint(&h.Count)
}

func (c *coder) cgroup(g *pstate.Cgroup) {
	each(c, &g.Limits, func(l *pstate.CPULimit) {
		c.text(&l.Path)
		c.float(&l.Cores)
		c.uint(&l.Periods)
		c.uint(&l.ThrottledPeriods)
		number(c, &l.Throttled)
	})
	each(c, &g.Pressure, func(p *pstate.Pressure) {
		c.text(&p.Resource)
		number(c, &p.Some)
		number(c, &p.Full)
		c.bool(&p.HasSome)
		c.bool(&p.HasFull)
	})
	keyed(c, &g.Unreadable, c.text)
}

// uint is a number without sign, in 1 to 10 bytes.
func (c *coder) uint(v *uint64) {
	if !c.decode {
		c.buf = binary.AppendUvarint(c.buf, *v)
		return
	}
	if c.err != nil {
		return
	}
	u, n := binary.Uvarint(c.buf)
	if n <= 0 {
		c.err = errCut
		return
	}
	*v, c.buf = u, c.buf[n:]
}

type integer interface {
	~int | ~int32 | ~int64 | ~uint8 | ~uint64
}

// number is any other number; small negative ones are short, too.
func number[T integer](c *coder, v *T) {
	u := uint64(int64(*v)<<1) ^ uint64(int64(*v)>>63)
	c.uint(&u)
	if c.decode && c.err == nil {
		*v = T(int64(u>>1) ^ -int64(u&1))
	}
}

// numbers are those of an array, most of which are zero: each that is not comes after the number of zeros before it.
func numbers[T integer](c *coder, vs []T) {
	zeros := uint64(0)
	for i := 0; i < len(vs); i++ {
		if !c.decode && vs[i] == 0 {
			zeros++
			continue
		}
		c.uint(&zeros)
		if c.decode {
			if c.err != nil || zeros > uint64(len(vs)-i) {
				c.fail()
				return
			}
			clear(vs[i : i+int(zeros)])
			if i += int(zeros); i == len(vs) {
				return
			}
		}
		number(c, &vs[i])
		zeros = 0
	}
	if !c.decode && zeros > 0 {
		c.uint(&zeros)
	}
}

func (c *coder) float(v *float64) {
	if !c.decode {
		c.buf = binary.LittleEndian.AppendUint64(c.buf, math.Float64bits(*v))
		return
	}
	if b := c.take(8); b != nil {
		*v = math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
}

func (c *coder) bool(v *bool) {
	if is := c.optional(*v); c.decode {
		*v = is
	}
}

// optional says whether something is there.
func (c *coder) optional(is bool) bool {
	var u uint64
	if is {
		u = 1
	}
	c.uint(&u)
	return c.err == nil && u == 1
}

func (c *coder) text(v *string) {
	n := uint64(len(*v))
	c.uint(&n)
	if !c.decode {
		c.buf = append(c.buf, *v...)
		return
	}
	if b := c.take(n); b != nil && string(b) != *v {
		*v = string(b)
	}
}

func (c *coder) time(v *time.Time) {
	var ns int64
	if !v.IsZero() {
		ns = v.UnixNano()
	}
	number(c, &ns)
	if c.decode && ns != 0 {
		*v = time.Unix(0, ns)
	}
}

// take gives the next n bytes; nil: there are not so many.
func (c *coder) take(n uint64) []byte {
	if c.err != nil || n > uint64(len(c.buf)) {
		c.fail()
		return nil
	}
	b := c.buf[:n]
	c.buf = c.buf[n:]
	return b
}

func (c *coder) fail() {
	if c.err == nil {
		c.err = errCut
	}
}

// length is that of a slice or map and one more; 0 is nil. The memory that is made for what is read is bounded by its
// bytes: each element takes a byte or more, a view of a P, the largest, some fifty.
func (c *coder) length(is bool, n int) (int, bool) {
	var u uint64
	if is {
		u = uint64(n) + 1
	}
	c.uint(&u)
	if c.err != nil || u == 0 {
		return 0, false
	}
	if c.decode && u-1 > uint64(len(c.buf)) {
		c.fail()
		return 0, false
	}
	return int(u - 1), true
}

// each is a slice.
func each[T any](c *coder, vs *[]T, one func(*T)) {
	n, is := c.length(*vs != nil, len(*vs))
	if !c.decode {
		for i := range *vs {
			one(&(*vs)[i])
		}
		return
	}
	*vs = nil
	if !is {
		return
	}
	// Grown as it is read: a length that is not so takes no memory.
	*vs = make([]T, 0, min(n, 1024))
	for range n {
		var v T
		if one(&v); c.err != nil {
			return
		}
		*vs = append(*vs, v)
	}
}

// keyed is a map.
func keyed[V any](c *coder, m *map[string]V, one func(*V)) {
	n, is := c.length(*m != nil, len(*m))
	if !c.decode {
		for k, v := range *m {
			c.text(&k)
			one(&v)
		}
		return
	}
	*m = nil
	if !is {
		return
	}
	*m = make(map[string]V, min(n, 1024))
	for range n {
		var k string
		var v V
		c.text(&k)
		if one(&v); c.err != nil {
			return
		}
		(*m)[k] = v
	}
}
