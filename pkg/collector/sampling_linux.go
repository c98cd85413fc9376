package collector

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// What the samples must learn of a target (see lag) would take minutes at their usual rate. So they come more often for a while whenever a target has
// something to teach, but never for long: each sample interrupts a CPU for about a microsecond, and every CPU of the host is sampled.
const (
	learnHz   = 997 // no divisor of what programs do at a steady pace
	learnFor  = 5 * time.Second
	learnRest = 25 * time.Second // after it
)

// sampling is the cpu-clock sample of every CPU. Only one goroutine changes its rate.
type sampling struct {
	events []int // perf event of each CPU
	links  []link.Link
	ticks  *ebpf.Variable // sample_period of bpf/sample.bpf.c
	usual  time.Duration
	period time.Duration // now
	until  time.Time     // while learning: its end; else when it may begin
}

// attach begins to sample every CPU that is online.
func (s *sampling) attach(objs *kern.ScopeObjects, hz int) error {
	s.usual = time.Second / time.Duration(hz)
	s.period, s.ticks = s.usual, objs.SamplePeriod
	if err := s.tell(); err != nil {
		return err
	}
	attr := unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_SOFTWARE,
		Config:      unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:        uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample:      uint64(s.period),
		Sample_type: unix.PERF_SAMPLE_RAW,
	}
	for cpu := 0; cpu < 8192 && len(s.events) < runtime.NumCPU()*8; cpu++ {
		if _, err := os.Stat(fmt.Sprintf("/sys/devices/system/cpu/cpu%d", cpu)); err != nil {
			break
		}
		fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if errors.Is(err, unix.ENODEV) {
			continue // present but offline
		}
		if err != nil {
			return fmt.Errorf("open the cpu-clock event of CPU %d: %w", cpu, err)
		}
		s.events = append(s.events, fd)
		l, err := link.AttachRawLink(link.RawLinkOptions{Target: fd, Program: objs.Sample, Attach: ebpf.AttachPerfEvent})
		if err != nil {
			return fmt.Errorf("attach the sample to CPU %d: %w", cpu, err)
		}
		s.links = append(s.links, l)
	}
	if len(s.events) == 0 {
		return errors.New("no CPU is listed in /sys/devices/system/cpu: mount sysfs")
	}
	return nil
}

// tell says to the kernel side what a sample stands for.
func (s *sampling) tell() error {
	if err := s.ticks.Set(uint32(s.period / tick)); err != nil {
		return fmt.Errorf("set the period of the samples: %w", err)
	}
	return nil
}

// every changes the time between two samples of a CPU. The one sample that is on its way stands for the wrong time.
func (s *sampling) every(period time.Duration) error {
	s.period = period
	if err := s.tell(); err != nil {
		return err
	}
	ns := uint64(period)
	for _, fd := range s.events {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.PERF_EVENT_IOC_PERIOD, uintptr(unsafe.Pointer(&ns))); errno != 0 {
			return fmt.Errorf("change the rate of the samples: %w", errno)
		}
	}
	return nil
}

// need samples more often for a while, if that is needed and due, and less often when that while is over.
func (s *sampling) need(more bool, now time.Time) error {
	if len(s.events) == 0 || s.usual <= time.Second/learnHz {
		return nil
	}
	switch learning := s.period != s.usual; {
	case learning && now.After(s.until):
		s.until = now.Add(learnRest)
		return s.every(s.usual)
	case !learning && more && now.After(s.until):
		s.until = now.Add(learnFor)
		return s.every(time.Second / learnHz)
	}
	return nil
}

func (s *sampling) close() {
	for _, l := range s.links {
		_ = l.Close()
	}
	for _, fd := range s.events {
		_ = unix.Close(fd)
	}
}

// sampleAsNeeded lets targets whose lags are not known well yet be sampled more often.
func (c *collect) sampleAsNeeded(now time.Time) {
	if c.kernel == nil {
		return
	}
	more := false
	for _, o := range c.all() {
		more = more || o.learning.Load()
	}
	if err := c.kernel.samples.need(more, now); err != nil {
		c.o.Log.Warn("the rate of the samples could not be changed", "err", err)
	}
}
