package kern

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// bandHertz is the width of a band: BAND_KHZ in bpf/cpu_frequency.bpf.c.
const bandHertz = 1e8

// Follower counts the time between the changes that frequency drivers announce; it is a cpufreq.Changes. It is not safe
// for concurrent use.
type Follower struct {
	objs   CpufreqObjects
	link   link.Link
	memory []byte
	cpus   []CpufreqCpu
	seen   []reading
	clock  func() uint64 // CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns
}

// reading is a CPU's record brought up to the moment of a call of Since.
type reading struct {
	changes uint64
	nanos   [len(CpufreqCpu{}.Nanos)]uint64
}

// Follow attaches to the tracepoint power:cpu_frequency. present is the frequency in hertz of each CPU that has one
// now: until its first change a CPU has that. The errors are those of loading and attaching BPF programs.
func Follow(present map[int]float64) (*Follower, error) {
	f, err := load(present)
	if err != nil {
		return nil, err
	}
	f.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "cpu_frequency",
		Program: f.objs.CpuFrequency})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("attach to the tracepoint cpu_frequency: %w", err)
	}
	return f, nil
}

func load(present map[int]float64) (*Follower, error) {
	spec, err := LoadCpufreq()
	if err != nil {
		return nil, err
	}
	count := 1
	if len(present) > 0 {
		count += slices.Max(slices.Collect(maps.Keys(present)))
	}
	spec.Maps["cpus"].MaxEntries = uint32(count)
	f := &Follower{seen: make([]reading, count), clock: monotonic}
	if err := spec.LoadAndAssign(&f.objs, nil); err != nil {
		return nil, fmt.Errorf("load the program for CPU frequencies: %w", err)
	}
	size := count * int(unsafe.Sizeof(CpufreqCpu{}))
	page := unix.Getpagesize()
	if f.memory, err = unix.Mmap(f.objs.Cpus.FD(), 0, (size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED); err != nil {
		f.Close()
		return nil, fmt.Errorf("map the frequencies into memory: %w", err)
	}
	f.cpus = unsafe.Slice((*CpufreqCpu)(unsafe.Pointer(&f.memory[0])), count)
	now := f.clock()
	for cpu, hz := range present {
		c := &f.cpus[cpu]
		c.Born, c.Since, c.Khz = now, now, uint64(hz/1000)
	}
	return f, nil
}

// Since implements cpufreq.Changes.
func (f *Follower) Since(cpu int) (map[float64]time.Duration, bool) {
	if cpu < 0 || cpu >= len(f.cpus) {
		return nil, false
	}
	now, ok := f.read(&f.cpus[cpu])
	before := f.seen[cpu]
	if !ok {
		return nil, false
	}
	f.seen[cpu] = now
	if now.changes == before.changes {
		return nil, false
	}
	times := make(map[float64]time.Duration)
	for band, nanos := range now.nanos {
		// The clock was read before a change that came in between: a few nanoseconds less are no time, not a negative
		// one.
		if nanos > before.nanos[band] {
			times[float64(band)*bandHertz] = time.Duration(nanos - before.nanos[band])
		}
	}
	return times, true
}

// attempts to copy a record while its CPU does not change frequency. Changes are milliseconds apart and a copy takes
// less than one microsecond, so the second already is rare.
const attempts = 8

// read copies the record of a CPU and adds the time since its last change. The sum of the times tells a torn copy.
func (f *Follower) read(c *CpufreqCpu) (r reading, ok bool) {
	for range attempts {
		since, born := atomic.LoadUint64(&c.Since), atomic.LoadUint64(&c.Born)
		if born == 0 {
			return r, false
		}
		r.changes = atomic.LoadUint64(&c.Changes)
		khz := atomic.LoadUint64(&c.Khz)
		var sum uint64
		for i := range c.Nanos {
			r.nanos[i] = atomic.LoadUint64(&c.Nanos[i])
			sum += r.nanos[i]
		}
		if atomic.LoadUint64(&c.Since) != since || atomic.LoadUint64(&c.Changes) != r.changes || sum != since-born {
			continue
		}
		if now := f.clock(); now > since {
			r.nanos[min(int(khz*1000/bandHertz), len(r.nanos)-1)] += now - since
		}
		return r, true
	}
	return r, false
}

// Close detaches.
func (f *Follower) Close() error {
	if f.link != nil {
		_ = f.link.Close()
	}
	f.cpus = nil
	if f.memory != nil {
		_ = unix.Munmap(f.memory)
		f.memory = nil
	}
	return f.objs.Close()
}

func monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // this clock is always there
	return uint64(ts.Nano())
}
