package collector

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
)

// chunkPs is how many consecutive Ps of a target share a chunk of records.
const chunkPs = int(kern.ScopeChunksCHUNK_PS)

// lastRanSets times 8 goroutines, of all targets, are remembered with the P that they ran on last.
const lastRanSets = 8192

// kernelSide is the loaded BPF object with its maps, the two big ones mapped into memory.
type kernelSide struct {
	objs    kern.ScopeObjects
	ring    *ringbuf.Reader
	targets []kern.ScopeTarget          // index 0 is never used
	records []kern.ScopeP_record        // chunk 0 is never used
	hints   []uint64                    // see target_hints in bpf/maps.h
	windows []kern.ScopeMigrationWindow // of tier 2, by target; none unless it is asked for
	starts  []kern.ScopeP_startCounts   // likewise, by P as in records
	mapped  [][]byte
	links   []link.Link
	sampled []kern.ScopeCpuSamples // by CPU
	samples sampling
	threads threadTable
	probes  probes

	trapCosts atomic.Int64 // a hit of a uprobe, in ns; 0: not measured

	mu          sync.Mutex
	freeTargets []uint32
	freeChunks  []uint16
	quarantined []quarantine
	entered     map[uint32]uint32 // the kernel's table of targets: index by tgid
	room        share.Room
}

// kernelOptions set up the kernel side.
type kernelOptions struct {
	MaxPs, MaxThreads int  // over all targets
	RingBytes         int  // of the ring buffer, a power of two
	Migrations        bool // tier 2 is asked for
	NoStops           bool // tier 1 is not
	TimeRuns          bool // each run of the scheduler's programs is timed
}

// probed says whether any tier needs probes.
func (o *kernelOptions) probed() bool { return !o.NoStops || o.Migrations }

// loadKernelSide loads and attaches everything that needs no target.
func loadKernelSide(o *kernelOptions) (k *kernelSide, err error) {
	spec, err := kern.LoadScope()
	if err != nil {
		return nil, err
	}
	chunks := uint32(chunksFor(o.MaxPs))
	if err = sizeTables(spec, o, chunks); err != nil {
		return nil, err
	}
	k = &kernelSide{entered: map[uint32]uint32{}}
	defer func() {
		if err != nil {
			k.close()
			k = nil
		}
	}()
	if o.probed() {
		k.probes.choose(spec)
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
	if err = loadAndAssign(spec, &k.objs); err != nil {
		return k, err
	}
	if err = k.mapTables(o); err != nil {
		return k, err
	}
	if err = k.objs.AgentAliveUntil.Set(uint64(0)); err != nil {
		return k, err
	}
	k.room = share.NewRoom(len(k.targets)-1, int(chunks), o.MaxThreads)
	for i := len(k.targets) - 1; i > 0; i-- {
		k.freeTargets = append(k.freeTargets, uint32(i))
	}
	for i := int(chunks); i > 0; i-- {
		k.freeChunks = append(k.freeChunks, uint16(i))
	}
	if k.ring, err = ringbuf.NewReader(k.objs.Events); err != nil {
		return k, err
	}
	err = k.attachTracepoints()
	return k, err
}

// sizeTables gives the tables the room that is asked for.
func sizeTables(spec *ebpf.CollectionSpec, o *kernelOptions, chunks uint32) error {
	spec.Maps[kern.ScopeMapP_records].MaxEntries = (chunks + 1) * uint32(chunkPs)
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
		spec.Maps[kern.ScopeMapP_starts].MaxEntries = (chunks + 1) * uint32(chunkPs)
		spec.Maps[kern.ScopeMapLastRan].MaxEntries = lastRanSets
	}
	return nil
}

// mapTables maps the tables of the kernel side into memory.
func (k *kernelSide) mapTables(o *kernelOptions) (err error) {
	if k.targets, err = mapped[kern.ScopeTarget](k, k.objs.Targets); err != nil {
		return err
	}
	if k.records, err = mapped[kern.ScopeP_record](k, k.objs.P_records); err != nil {
		return err
	}
	if k.threads.sets, err = mapped[kern.ScopeThreadSet](k, k.objs.ThreadSets); err != nil {
		return err
	}
	if k.threads.entries, err = mapped[kern.ScopeThread](k, k.objs.Threads); err != nil {
		return err
	}
	if k.hints, err = mapped[uint64](k, k.objs.TargetHints); err != nil {
		return err
	}
	if k.sampled, err = mapped[kern.ScopeCpuSamples](k, k.objs.SampledCpus); err != nil {
		return err
	}
	if o.Migrations {
		if k.windows, err = mapped[kern.ScopeMigrationWindow](k, k.objs.MigrationWindows); err != nil {
			return err
		}
		if k.starts, err = mapped[kern.ScopeP_startCounts](k, k.objs.P_starts); err != nil {
			return err
		}
	}
	return nil
}

// attachTracepoints makes the programs run that need no target.
func (k *kernelSide) attachTracepoints() error {
	for name, prog := range map[string]*ebpf.Program{
		"sched_switch":       k.objs.SchedSwitch,
		"sched_waking":       k.objs.SchedWaking,
		"sched_process_exec": k.objs.Exec,
		"sched_process_exit": k.objs.ProcessExit,
	} {
		l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: prog})
		if err != nil {
			return fmt.Errorf("attach to the tracepoint %s: %w", name, err)
		}
		k.links = append(k.links, l)
	}
	return nil
}

// startSamples begins to sample every CPU, so many times a second.
func (k *kernelSide) startSamples(hz int) error {
	if err := k.samples.attach(k.objs.Sample, k.sampled, hz); err != nil {
		return explainSamples(err)
	}
	return nil
}

// noProbes says why no probe can be attached; nil if they can.
func (k *kernelSide) noProbes() error {
	if k.probes.why == nil {
		return nil
	}
	return explainProbe(k.probes.why)
}

// needsAdmin says whether probes take CAP_SYS_ADMIN on this kernel.
func (k *kernelSide) needsAdmin() bool { return k.probes.way == perfProbes }

// measureTrap measures what a hit of a uprobe costs on this machine.
func (k *kernelSide) measureTrap() error {
	d, err := k.probes.measureTrap(k.objs.WorldStarted)
	if err == nil {
		k.trapCosts.Store(int64(d))
	}
	return err
}

// trap is what a hit of a uprobe costs besides the time in the program.
func (k *kernelSide) trap() time.Duration {
	if d := k.trapCosts.Load(); d > 0 {
		return time.Duration(d)
	}
	return usualTrap
}

// mapped maps an array into memory.
func mapped[T any](k *kernelSide, m *ebpf.Map) ([]T, error) {
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

func (k *kernelSide) close() {
	k.unload()
	for _, b := range k.mapped {
		_ = unix.Munmap(b)
	}
}

// unload ends what the kernel does for the agent. The tables stay in its memory.
func (k *kernelSide) unload() {
	for _, l := range k.links {
		_ = l.Close()
	}
	k.samples.close()
	if k.ring != nil {
		_ = k.ring.Close()
	}
	_ = k.objs.Close()
}

// globalLost reads the losses that belong to no target.
func (k *kernelSide) globalLost() map[string]uint64 {
	out := map[string]uint64{}
	for i, name := range lostReasons {
		if n := k.lostOf(kern.ScopeLostReason(i)); n > 0 {
			out[name] = n
		}
	}
	if n := k.samples.lost.Load(); n > 0 {
		out["samples_missed"] = n
	}
	if n := recursionMisses(k.programs()); n > 0 {
		out["programs_not_run"] = n
	}
	return out
}

// lostOf is one of them.
func (k *kernelSide) lostOf(reason kern.ScopeLostReason) (n uint64) {
	_ = k.objs.LostGlobal.Lookup(uint32(reason), &n) // an element of an array is always there
	return n
}

// lostReasons names enum lost_reason of bpf/types.h for the label `reason` of pscope_lost_events_total.
var lostReasons = [...]string{
	kern.ScopeLostReasonLOST_RING_FULL:       "ring_full",
	kern.ScopeLostReasonLOST_INTERVAL_BUDGET: "interval_budget",
	kern.ScopeLostReasonLOST_THREADS_FULL:    "threads_full",
	kern.ScopeLostReasonLOST_READ_FAULT:      "read_fault",
	kern.ScopeLostReasonLOST_CONTENDED:       "contended",
	kern.ScopeLostReasonLOST_NO_SLOT:         "no_slot",
	kern.ScopeLostReasonLOST_BAD_MEMORY:      "bad_memory",
	kern.ScopeLostReasonLOST_LAST_P:          "last_p_forgotten",
}
