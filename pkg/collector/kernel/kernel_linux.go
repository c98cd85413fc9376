package kernel

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/share"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/loss"
)

// ChunkPs is how many consecutive Ps of a target share a chunk of records.
const ChunkPs = int(kern.ScopeChunksCHUNK_PS)

// lastRanSets times 8 goroutines, of all targets, are remembered with the P that they ran on last.
const lastRanSets = 8192

// Side is the loaded BPF object with its maps, the two big ones mapped into memory.
type Side struct {
	Objects          kern.ScopeObjects
	Ring             *ringbuf.Reader
	Targets          []kern.ScopeTarget          // index 0 is never used
	Records          []kern.ScopeP_record        // chunk 0 is never used
	hints            []uint64                    // see target_hints in bpf/maps.h
	MigrationWindows []kern.ScopeMigrationWindow // of tier 2, by target; none unless it is asked for
	Starts           []kern.ScopeP_startCounts   // likewise, by P as in records
	mapped           [][]byte
	links            []link.Link
	sampled          []kern.ScopeCpuSamples // by CPU
	Samples          Sampling
	Threads          ThreadTable
	Probes           Probes

	trapCosts atomic.Int64 // a hit of a uprobe, in ns; 0: not measured

	mu          sync.Mutex
	freeTargets []uint32
	freeChunks  []uint16
	quarantined []quarantine
	entered     map[uint32]uint32 // the kernel's table of targets: index by tgid
	room        share.Room
}

// Options set up the kernel side.
type Options struct {
	MaxPs, MaxThreads int  // over all targets
	RingBytes         int  // of the ring buffer, a power of two
	Migrations        bool // tier 2 is asked for
	NoStops           bool // tier 1 is not
	TimeRuns          bool // each run of the scheduler's programs is timed
}

// probed says whether any tier needs probes.
func (o *Options) probed() bool { return !o.NoStops || o.Migrations }

// load loads and attaches everything that needs no target.
func load(o *Options) (k *Side, err error) {
	spec, err := kern.LoadScope()
	if err != nil {
		return nil, err
	}
	chunks := uint32(Chunks(o.MaxPs))
	if err = sizeTables(spec, o, chunks); err != nil {
		return nil, err
	}
	k = &Side{entered: map[uint32]uint32{}}
	defer func() {
		if err != nil {
			k.Close()
			k = nil
		}
	}()
	if o.probed() {
		k.Probes.choose(spec)
	}
	if kernel, err := btf.LoadKernelSpec(); err == nil { // else the programs can't be loaded, which says why
		if err := fitTracepoints(spec, kernel); err != nil {
			return k, err
		}
	}
	if o.TimeRuns {
		if err = spec.Variables["time_runs"].Set(uint32(1)); err != nil {
			return k, fmt.Errorf("switch on the timing of runs: %w", err)
		}
	}
	if err = loadAndAssign(spec, &k.Objects); err != nil {
		return k, err
	}
	if err = k.mapTables(o); err != nil {
		return k, err
	}
	if err = k.Objects.AgentAliveUntil.Set(uint64(0)); err != nil {
		return k, err
	}
	k.room = share.NewRoom(len(k.Targets)-1, int(chunks), o.MaxThreads)
	for i := len(k.Targets) - 1; i > 0; i-- {
		k.freeTargets = append(k.freeTargets, uint32(i))
	}
	for i := int(chunks); i > 0; i-- {
		k.freeChunks = append(k.freeChunks, uint16(i))
	}
	if k.Ring, err = ringbuf.NewReader(k.Objects.Events); err != nil {
		return k, err
	}
	err = k.attachTracepoints()
	return k, err
}

// sizeTables gives the tables the room that is asked for.
func sizeTables(spec *ebpf.CollectionSpec, o *Options, chunks uint32) error {
	spec.Maps[kern.ScopeMapP_records].MaxEntries = (chunks + 1) * uint32(ChunkPs)
	sets := threadSets(o.MaxThreads)
	spec.Maps[kern.ScopeMapThreadSets].MaxEntries = sets
	spec.Maps[kern.ScopeMapThreads].MaxEntries = sets * uint32(threadWays)
	if err := spec.Variables["thread_set_mask"].Set(sets - 1); err != nil {
		return fmt.Errorf("set the size of the table of threads: %w", err)
	}
	spec.Maps[kern.ScopeMapEvents].MaxEntries = uint32(o.RingBytes)
	cpus, cpusErr := procfs.PossibleCPUs()
	if cpusErr == nil { // else no CPU is sampled, and attach says why
		spec.Maps[kern.ScopeMapSampledCpus].MaxEntries = uint32(cpus)
	}
	if o.Migrations {
		spec.Maps[kern.ScopeMapMigrationWindows].MaxEntries = spec.Maps[kern.ScopeMapTargets].MaxEntries
		spec.Maps[kern.ScopeMapP_starts].MaxEntries = (chunks + 1) * uint32(ChunkPs)
		spec.Maps[kern.ScopeMapLastRan].MaxEntries = lastRanSets
	}
	return nil
}

// mapTables maps the tables of the kernel side into memory.
func (k *Side) mapTables(o *Options) (err error) {
	if k.Targets, err = mapped[kern.ScopeTarget](k, k.Objects.Targets); err != nil {
		return err
	}
	if k.Records, err = mapped[kern.ScopeP_record](k, k.Objects.P_records); err != nil {
		return err
	}
	if k.Threads.sets, err = mapped[kern.ScopeThreadSet](k, k.Objects.ThreadSets); err != nil {
		return err
	}
	if k.Threads.entries, err = mapped[kern.ScopeThread](k, k.Objects.Threads); err != nil {
		return err
	}
	if k.hints, err = mapped[uint64](k, k.Objects.TargetHints); err != nil {
		return err
	}
	if k.sampled, err = mapped[kern.ScopeCpuSamples](k, k.Objects.SampledCpus); err != nil {
		return err
	}
	if o.Migrations {
		if k.MigrationWindows, err = mapped[kern.ScopeMigrationWindow](k, k.Objects.MigrationWindows); err != nil {
			return err
		}
		if k.Starts, err = mapped[kern.ScopeP_startCounts](k, k.Objects.P_starts); err != nil {
			return err
		}
	}
	return nil
}

// attachTracepoints makes the programs run that need no target.
func (k *Side) attachTracepoints() error {
	for name, prog := range map[string]*ebpf.Program{
		"sched_switch":       k.Objects.SchedSwitch,
		"sched_waking":       k.Objects.SchedWaking,
		"sched_process_exec": k.Objects.Exec,
		"sched_process_exit": k.Objects.ProcessExit,
	} {
		l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: prog})
		if err != nil {
			return fmt.Errorf("attach to the tracepoint %s: %w", name, err)
		}
		k.links = append(k.links, l)
	}
	return nil
}

// StartSamples begins to sample every CPU, so many times a second.
func (k *Side) StartSamples(hz int) error {
	if err := k.Samples.attach(k.Objects.Sample, k.sampled, hz); err != nil {
		return explainSamples(err)
	}
	return nil
}

// SamplesOf is how many samples of a CPU have come.
func (k *Side) SamplesOf(cpu int) uint64 { return atomic.LoadUint64(&k.sampled[cpu].Samples) }

// WhyNoProbes says why no probe can be attached; nil if they can.
func (k *Side) WhyNoProbes() error {
	if k.Probes.why == nil {
		return nil
	}
	return ExplainProbe(k.Probes.why)
}

// NeedsAdmin says whether probes take CAP_SYS_ADMIN on this kernel.
func (k *Side) NeedsAdmin() bool { return k.Probes.way == PerfProbes }

// MeasureTrap measures what a hit of a uprobe costs on this machine.
func (k *Side) MeasureTrap() error {
	d, err := k.Probes.measureTrap(k.Objects.WorldStarted)
	if err == nil {
		k.trapCosts.Store(int64(d))
	}
	return err
}

// TrapMeasured says whether that has been done.
func (k *Side) TrapMeasured() bool { return k.trapCosts.Load() > 0 }

// TrapCost is what a hit of a uprobe costs besides the time in the program.
func (k *Side) TrapCost() time.Duration {
	if d := k.trapCosts.Load(); d > 0 {
		return time.Duration(d)
	}
	return usualTrap
}

// mapped maps an array into memory.
func mapped[T any](k *Side, m *ebpf.Map) ([]T, error) {
	var zero T
	size := int(unsafe.Sizeof(zero))
	if int(m.ValueSize()) != size {
		return nil, fmt.Errorf("%v: the value has %d bytes in the object and %d here", m, m.ValueSize(), size)
	}
	n := int(m.MaxEntries())
	page := os.Getpagesize()
	b, err := unix.Mmap(m.FD(), 0, (n*size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %v into memory: %w", m, err)
	}
	k.mapped = append(k.mapped, b)
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n), nil
}

// Close ends what the kernel does for the agent, and unmaps the tables.
func (k *Side) Close() {
	k.Unload()
	for _, b := range k.mapped {
		_ = unix.Munmap(b)
	}
}

// Unload ends what the kernel does for the agent. The tables stay in its memory.
func (k *Side) Unload() {
	for _, l := range k.links {
		_ = l.Close()
	}
	k.Samples.close()
	if k.Ring != nil {
		_ = k.Ring.Close()
	}
	_ = k.Objects.Close()
}

// GlobalLost reads the losses that belong to no target.
func (k *Side) GlobalLost() map[string]uint64 {
	out := map[string]uint64{}
	for i, name := range LostReasons {
		if n := k.GlobalLostOf(kern.ScopeLostReason(i)); n > 0 {
			out[name] = n
		}
	}
	if n := k.Samples.lost.Load(); n > 0 {
		out[loss.SamplesMissed] = n
	}
	if n := recursionMisses(k.programs()); n > 0 {
		out[loss.ProgramsNotRun] = n
	}
	return out
}

// GlobalLostOf is one of them.
func (k *Side) GlobalLostOf(reason kern.ScopeLostReason) (n uint64) {
	_ = k.Objects.LostGlobal.Lookup(uint32(reason), &n) // an element of an array is always there
	return n
}

// LostReasons names enum lost_reason of bpf/types.h for the label `reason` of pscope_lost_events_total.
var LostReasons = [...]string{
	kern.ScopeLostReasonLOST_RING_FULL:       loss.RingFull,
	kern.ScopeLostReasonLOST_INTERVAL_BUDGET: loss.IntervalBudget,
	kern.ScopeLostReasonLOST_THREADS_FULL:    loss.ThreadsFull,
	kern.ScopeLostReasonLOST_READ_FAULT:      loss.ReadFault,
	kern.ScopeLostReasonLOST_CONTENDED:       loss.Contended,
	kern.ScopeLostReasonLOST_NO_SLOT:         loss.NoSlot,
	kern.ScopeLostReasonLOST_BAD_MEMORY:      loss.BadMemory,
	kern.ScopeLostReasonLOST_LAST_P:          loss.LastPForgotten,
}
