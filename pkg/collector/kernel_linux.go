package collector

import (
	"errors"
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
)

// chunkPs is how many consecutive Ps of a target share a chunk of records.
const chunkPs = int(kern.ScopeChunksCHUNK_PS)

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
	resting     []restingSlots
	entered     map[uint32]uint32 // the kernel's table of targets: index by tgid
	room        room
}

// restingSlots are given back a while after their target ended: a program that still runs on some CPU must not write into a record that
// has become another target's.
type restingSlots struct {
	since  time.Time
	target uint32
	chunks []uint16
}

const restFor = 2 * time.Second

// loadKernelSide loads and attaches everything that needs no target.
func loadKernelSide(o *Options) (k *kernelSide, err error) {
	spec, err := kern.LoadScope()
	if err != nil {
		return nil, err
	}
	chunks := uint32((o.MaxPs + chunkPs - 1) / chunkPs)
	spec.Maps[kern.ScopeMapP_records].MaxEntries = (chunks + 1) * uint32(chunkPs)
	sets := threadSets(o.MaxThreads)
	spec.Maps[kern.ScopeMapThreadSets].MaxEntries = sets
	spec.Maps[kern.ScopeMapThreads].MaxEntries = sets * uint32(threadWays)
	if err = spec.Variables["thread_set_mask"].Set(sets - 1); err != nil {
		return nil, fmt.Errorf("set the size of the table of threads: %w", err)
	}
	spec.Maps[kern.ScopeMapEvents].MaxEntries = uint32(o.RingBytes)
	cpus, cpusErr := possibleCPUs()
	if cpusErr == nil { // else no CPU is sampled, and attach says why
		spec.Maps[kern.ScopeMapSampledCpus].MaxEntries = uint32(cpus)
	}
	if o.Migrations {
		spec.Maps[kern.ScopeMapMigrationWindows].MaxEntries = spec.Maps[kern.ScopeMapTargets].MaxEntries
		spec.Maps[kern.ScopeMapP_starts].MaxEntries = (chunks + 1) * uint32(chunkPs)
		spec.Maps[kern.ScopeMapLastRan].MaxEntries = lastRanSets
	}
	k = &kernelSide{entered: map[uint32]uint32{}}
	defer func() {
		if err != nil {
			k.close()
			k = nil
		}
	}()
	if !o.NoStops || o.Migrations {
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
	if k.targets, err = mapped[kern.ScopeTarget](k, k.objs.Targets); err != nil {
		return k, err
	}
	if k.records, err = mapped[kern.ScopeP_record](k, k.objs.P_records); err != nil {
		return k, err
	}
	if k.threads.sets, err = mapped[kern.ScopeThreadSet](k, k.objs.ThreadSets); err != nil {
		return k, err
	}
	if k.threads.entries, err = mapped[kern.ScopeThread](k, k.objs.Threads); err != nil {
		return k, err
	}
	if k.hints, err = mapped[uint64](k, k.objs.TargetHints); err != nil {
		return k, err
	}
	if k.sampled, err = mapped[kern.ScopeCpuSamples](k, k.objs.SampledCpus); err != nil {
		return k, err
	}
	if o.Migrations {
		if k.windows, err = mapped[kern.ScopeMigrationWindow](k, k.objs.MigrationWindows); err != nil {
			return k, err
		}
		if k.starts, err = mapped[kern.ScopeP_startCounts](k, k.objs.P_starts); err != nil {
			return k, err
		}
	}
	if err = k.objs.AgentAliveUntil.Set(uint64(0)); err != nil {
		return k, err
	}
	k.room = newRoom(len(k.targets)-1, int(chunks), o.MaxThreads)
	for i := len(k.targets) - 1; i > 0; i-- {
		k.freeTargets = append(k.freeTargets, uint32(i))
	}
	for i := int(chunks); i > 0; i-- {
		k.freeChunks = append(k.freeChunks, uint16(i))
	}
	if k.ring, err = ringbuf.NewReader(k.objs.Events); err != nil {
		return k, err
	}
	for name, prog := range map[string]*ebpf.Program{
		"sched_switch":       k.objs.SchedSwitch,
		"sched_waking":       k.objs.SchedWaking,
		"sched_process_exec": k.objs.Exec,
		"sched_process_exit": k.objs.ProcessExit,
	} {
		l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: prog})
		if err != nil {
			return k, fmt.Errorf("attach to the tracepoint %s: %w", name, err)
		}
		k.links = append(k.links, l)
	}
	return k, nil
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

// errRoom is what every error for lack of room is.
var errRoom = errors.New("no room")

// takeTarget gives an unused index in targets, to a process of a user that has so many threads.
func (k *kernelSide) takeTarget(uid uint32, threads int) (uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wake()
	if err := k.room.ask(uid, roomForTargets, 1, len(k.freeTargets)); err != nil {
		return 0, err
	}
	k.room.take(uid, roomForTargets, 1)
	k.room.take(uid, roomForThreads, threads) // until they are counted
	i := k.freeTargets[len(k.freeTargets)-1]
	k.freeTargets = k.freeTargets[:len(k.freeTargets)-1]
	return i, nil
}

// takeChunk gives an unused chunk of records to a process of a user, which admit has let in.
func (k *kernelSide) takeChunk(uid uint32) (uint16, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wake()
	if len(k.freeChunks) == 0 {
		return 0, noRoom(roomForPs, 1)
	}
	k.room.take(uid, roomForPs, 1)
	c := k.freeChunks[len(k.freeChunks)-1]
	k.freeChunks = k.freeChunks[:len(k.freeChunks)-1]
	return c, nil
}

// giveBack returns the slots of a user's target, to be used again after a rest.
func (k *kernelSide) giveBack(uid, target uint32, chunks []uint16) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.room.take(uid, roomForTargets, -1)
	k.room.take(uid, roomForPs, -len(chunks))
	k.resting = append(k.resting, restingSlots{time.Now(), target, chunks})
}

// enter makes a process a target.
func (k *kernelSide) enter(pid int32, target uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	atomic.StoreUint32(&k.targets[target].Active, uint32(kern.ScopeActivityOBSERVED))
	if err := k.objs.TargetIndex.Put(uint32(pid), target); err != nil {
		return fmt.Errorf("enter it in the kernel's table of targets: %w", err)
	}
	k.entered[uint32(pid)] = target
	k.hint(uint32(pid))
	return nil
}

// leave undoes enter. The process may be a target under another index by now: it runs another program, or is another process.
func (k *kernelSide) leave(pid int32, target uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	atomic.StoreUint32(&k.targets[target].Active, uint32(kern.ScopeActivityNOT_OBSERVED))
	var now uint32
	if k.objs.TargetIndex.Lookup(uint32(pid), &now) == nil && now == target {
		_ = k.objs.TargetIndex.Delete(uint32(pid))
		delete(k.entered, uint32(pid))
		k.hint(uint32(pid))
	}
}

// overlook makes the kernel side see nothing of a target but its stops.
func (k *kernelSide) overlook(pid int32, target uint32) {
	k.attend(pid, target, kern.ScopeActivityOBSERVED, kern.ScopeActivitySTOPS_ONLY)
}

// see undoes overlook.
func (k *kernelSide) see(pid int32, target uint32) {
	k.attend(pid, target, kern.ScopeActivitySTOPS_ONLY, kern.ScopeActivityOBSERVED)
}

// attend changes what the kernel side does about a target, unless that has retired it.
func (k *kernelSide) attend(pid int32, target uint32, from, to kern.ScopeActivity) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if atomic.CompareAndSwapUint32(&k.targets[target].Active, uint32(from), uint32(to)) {
		k.hint(uint32(pid))
	}
}

func (k *kernelSide) wake() {
	for len(k.resting) > 0 && time.Since(k.resting[0].since) > restFor {
		// The kernel side knows a thread as one of the target with this index: none may be left from the one before.
		k.forgetThreads(k.resting[0].target)
		k.freeTargets = append(k.freeTargets, k.resting[0].target)
		k.freeChunks = append(k.freeChunks, k.resting[0].chunks...)
		k.resting = k.resting[1:]
	}
}

// The table of hints, as bpf/maps.h has it.
const (
	hints      = uint32(kern.ScopeHintsHINTS)
	hintShared = uint64(kern.ScopeHintsHINT_SHARED)
)

// hint brings the kernel side's short cut to a tgid's target up to date. Several targets may share it.
func (k *kernelSide) hint(tgid uint32) {
	var v uint64
	for t, index := range k.entered {
		switch {
		case t%hints != tgid%hints || atomic.LoadUint32(&k.targets[index].Active) == uint32(kern.ScopeActivitySTOPS_ONLY):
		case v == 0:
			v = uint64(index)
		default:
			v = hintShared
		}
	}
	word, shift := &k.hints[tgid%hints/4], tgid%4*16
	atomic.StoreUint64(word, *word&^(0xffff<<shift)|v<<shift)
}

// forgetThreads removes the threads of a target from the table.
func (k *kernelSide) forgetThreads(target uint32) {
	k.threads.removeIf(func(th *kern.ScopeThread) bool { return th.Target == target })
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
