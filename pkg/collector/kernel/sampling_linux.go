package kernel

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/lack"
)

// What the samples must learn of a target (see lag) would take minutes at their usual rate. So they come more often for
// a while whenever a target has something to teach, but never for long: each sample interrupts a CPU for about a
// microsecond, and every CPU of the host is sampled.
const (
	learnHz   = 997 // no divisor of what programs do at a steady pace
	learnFor  = 5 * time.Second
	learnRest = 25 * time.Second // after it
)

const (
	retryCPU = 30 * time.Second // after which a CPU that could not be sampled is tried again
	mostFor  = 8                // times the period that a sample stands for at most, however few come
)

// Sampling is the cpu-clock sample of every CPU that is online. The collector's main loop is the only one that changes
// it.
type Sampling struct {
	prog   *ebpf.Program
	counts []kern.ScopeCpuSamples // by CPU, in kernel memory
	online *procfs.OnlineCPUs     // nil: no CPU is sampled
	usual  time.Duration
	Period time.Duration // now
	until  time.Time     // while learning: its end; else when it may begin
	retry  time.Time     // when CPUs that could not be sampled are tried again

	lost atomic.Uint64 // samples that did not come

	idle func() map[int]time.Duration // how long each CPU has been idle since the boot; nil: not known

	mu      sync.Mutex          // guards what Agent reads
	sampled map[int]*sampledCPU // by number
	failed  map[int]error       // online CPUs that can't be sampled
}

// sampledCPU is one CPU under sampling.
type sampledCPU struct {
	event  int // of perf_event_open
	link   link.Link
	at     int64 // CLOCK_MONOTONIC, when its samples were counted last
	idle   time.Duration
	seen   uint64  // how many had come by then
	behind float64 // how many should have come by then beyond those that did, and are not counted as lost
}

// attach begins to sample every CPU that is online, whichever the agent itself may run on. CPUs on which that fails are
// named by lack; it is an error if none is left.
func (s *Sampling) attach(prog *ebpf.Program, counts []kern.ScopeCpuSamples, hz int) (err error) {
	s.prog, s.counts, s.idle = prog, counts, procfs.IdleTimes
	s.usual = time.Second / time.Duration(hz)
	s.Period = s.usual
	s.sampled, s.failed = map[int]*sampledCPU{}, map[int]error{}
	if s.online, err = procfs.OpenOnlineCPUs(procfs.SysCPUs); err != nil {
		return err
	}
	now := time.Now()
	s.retry = now.Add(retryCPU)
	s.follow(now)
	if len(s.sampled) > 0 {
		return nil
	}
	s.online.Close()
	s.online = nil
	if len(s.failed) > 0 {
		// Of the first CPU, so that agent and doctor say the same.
		return s.failed[slices.Min(slices.Collect(maps.Keys(s.failed)))]
	}
	return fmt.Errorf("%s/online names no CPU", procfs.SysCPUs)
}

// follow makes the CPUs that are sampled those that are online.
func (s *Sampling) follow(now time.Time) (came, went []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cpu := range s.sampled {
		if !slices.Contains(s.online.CPUs, cpu) {
			s.leave(cpu)
			went = append(went, cpu)
		}
	}
	again := now.After(s.retry)
	if again {
		s.retry = now.Add(retryCPU)
	}
	maps.DeleteFunc(s.failed, func(cpu int, _ error) bool { return again || !slices.Contains(s.online.CPUs, cpu) })
	for _, cpu := range s.online.CPUs {
		if s.sampled[cpu] != nil || s.failed[cpu] != nil {
			continue
		}
		if s.enter(cpu) {
			came = append(came, cpu)
		}
	}
	slices.Sort(went)
	return came, went
}

// enter begins to sample a CPU. The caller holds mu.
func (s *Sampling) enter(cpu int) bool {
	c, err := s.open(cpu)
	switch {
	case errors.Is(err, unix.ENODEV):
		return false // it has just gone offline: the list will say so
	case err != nil:
		s.failed[cpu] = err
		return false
	}
	s.sampled[cpu] = c
	return true
}

// open attaches the program to a new cpu-clock event of a CPU.
func (s *Sampling) open(cpu int) (*sampledCPU, error) {
	if cpu >= len(s.counts) {
		return nil, fmt.Errorf("%s/possible does not have CPU %d", procfs.SysCPUs, cpu)
	}
	attr := unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_SOFTWARE,
		Config:      unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:        uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample:      uint64(s.Period),
		Sample_type: unix.PERF_SAMPLE_RAW,
	}
	atomic.StoreUint32(&s.counts[cpu].TicksEach, uint32(s.Period/ledger.Tick))
	fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open the cpu-clock event of CPU %d: %w", cpu, err)
	}
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: fd, Program: s.prog, Attach: ebpf.AttachPerfEvent})
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("attach the sample to CPU %d: %w", cpu, err)
	}
	c := &sampledCPU{event: fd, link: l, at: ledger.Monotonic(), seen: atomic.LoadUint64(&s.counts[cpu].Samples)}
	if s.idle != nil {
		c.idle = s.idle()[cpu]
	}
	return c, nil
}

// leave ends the sampling of a CPU. The caller holds mu.
func (s *Sampling) leave(cpu int) {
	c := s.sampled[cpu]
	delete(s.sampled, cpu)
	_ = c.link.Close()
	_ = unix.Close(c.event)
}

// Check looks after the samples, about once a second: it counts those that did not come, and samples the CPUs that have
// come online. The event of a CPU that was offline is dead for good (kernel/events/core.c, perf_event_exit_cpu), so one
// without a single sample gets a new event.
func (s *Sampling) Check(now time.Time, log *slog.Logger) {
	if s.online == nil {
		return
	}
	changed, err := s.online.Read()
	if err != nil {
		log.Warn("CPUs that come and go are not noticed", "err", err)
	}
	dead := s.count(ledger.Monotonic())
	if len(dead) > 0 {
		s.mu.Lock()
		for _, cpu := range dead {
			s.leave(cpu)
		}
		s.mu.Unlock()
		if !changed {
			log.Info("a CPU gave no samples; its event is opened anew", "cpus", procfs.NameCPUs(dead))
		}
	}
	if !changed && len(dead) == 0 && (len(s.failed) == 0 || !now.After(s.retry)) {
		return
	}
	came, went := s.follow(now)
	if changed && len(came)+len(went) > 0 {
		log.Info("CPUs have come or gone", "sampled", came, "gone", went)
	}
}

// count compares the samples of each CPU with what the clock says should have come, and gives the CPUs of which none
// did. The time between two samples is exact (the timer of a cpu-clock event goes on from when it should have fired),
// so one that is missing was skipped: the hypervisor or interrupts kept the CPU from its timer for longer than a
// period, the kernel throttled the event (kernel.perf_event_max_sample_rate), or another BPF program was just running
// on the CPU (kernel/events/core.c, bpf_overflow_handler), which no counter of the kernel's tells. A CPU that is idle
// need not give any: some virtual machines stop its timer, and nothing runs there that a sample could find.
func (s *Sampling) count(now int64) (dead []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var idle map[int]time.Duration
	if s.idle != nil {
		idle = s.idle()
	}
	for cpu, c := range s.sampled {
		seen := atomic.LoadUint64(&s.counts[cpu].Samples)
		rested := max(idle[cpu]-c.idle, 0)
		came, due := float64(seen-c.seen), max(float64(now-c.at-int64(rested)), 0)/float64(s.Period)
		c.at, c.seen, c.idle = now, seen, idle[cpu]
		c.behind = max(c.behind+due-came, -1)
		missing := 0.0
		if c.behind >= 2 { // one may be on its way
			missing = float64(int(c.behind) - 1)
			c.behind -= missing
			s.lost.Add(uint64(missing))
		}
		// As long as some are missing, those that come stand for them: else what they find would seem rarer than it is.
		each := 1.0
		if missing > 0 {
			each = min(due/max(came, 1), mostFor)
		}
		atomic.StoreUint32(&s.counts[cpu].TicksEach, uint32(each*float64(s.Period/ledger.Tick)))
		if came == 0 && due >= 3 {
			dead = append(dead, cpu)
		}
	}
	slices.Sort(dead)
	return dead
}

// Lack names the CPUs that can't be sampled.
func (s *Sampling) Lack() (lack.Lack, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.online == nil || len(s.failed) == 0 {
		return lack.Lack{}, false
	}
	cpus := slices.Sorted(maps.Keys(s.failed))
	err := explainSamples(s.failed[cpus[0]])
	return lack.Lack{
		What: "samples of " + procfs.NameCPUs(cpus),
		Why:  err.Error(),
		Fix: "what runs there is shown as running, also in system calls and the GC. It is tried again every " +
			retryCPU.String() +
			"; if it lasts, " + FixFor(err),
	}, true
}

// setPeriod changes the time between two samples of a CPU. The one sample that is on its way stands for the wrong time,
// and does not come: the timer begins anew.
func (s *Sampling) setPeriod(period time.Duration) error {
	s.count(ledger.Monotonic())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Period = period
	ns := uint64(period)
	var failed error
	for cpu, c := range s.sampled {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.event), unix.PERF_EVENT_IOC_PERIOD,
			uintptr(unsafe.Pointer(&ns)))
		if errno != 0 {
			failed = fmt.Errorf("change the rate of the samples of CPU %d: %w", cpu, errno)
			continue
		}
		c.at, c.behind = ledger.Monotonic(), 0
		atomic.StoreUint32(&s.counts[cpu].TicksEach, uint32(period/ledger.Tick))
	}
	return failed
}

// Adjust samples more often for a while, if that is needed and due, and less often when that while is over.
func (s *Sampling) Adjust(more bool, now time.Time) error {
	if s.online == nil || s.usual <= time.Second/learnHz {
		return nil
	}
	switch learning := s.Period != s.usual; {
	case learning && now.After(s.until):
		s.until = now.Add(learnRest)
		return s.setPeriod(s.usual)
	case !learning && more && now.After(s.until):
		s.until = now.Add(learnFor)
		return s.setPeriod(time.Second / learnHz)
	}
	return nil
}

func (s *Sampling) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cpu := range s.sampled {
		s.leave(cpu)
	}
	if s.online != nil {
		s.online.Close()
		s.online = nil
	}
}
