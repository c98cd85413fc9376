package process

import (
	"errors"
	"strconv"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/layout"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Validate checks that the Binary fits the live process. The version string is the one in the file. There are between 1
// and 4096 Ps, as many as GOMAXPROCS, each with its own number and a known status. Each M that carries a P names that
// P. A wrong layout, which would otherwise yield plausible nonsense, does not pass. A layout that was found by search
// is proved field by field besides. A process that is starting up gives [refusal.ErrNotStarted]: try again later.
func (p *Process) Validate() error {
	var s Snapshot
	var last error
	// A stop of the world that changes GOMAXPROCS, or Ps that change hands while they are read, can spoil one look, but
	// hardly several.
	for attempt := range 5 {
		if attempt > 0 {
			time.Sleep(2 * time.Millisecond)
		}
		err := p.Snapshot(&s, true)
		if err == nil {
			err = p.plausible(&s)
		}
		if err == nil {
			if p.bin.LayoutSource == pstate.LayoutSearch {
				if err := p.prove(); err != nil {
					return err
				}
			}
			// Not before: the string's pointer is not relocated until the dynamic linker has run.
			return p.validateVersion()
		}
		if !errors.Is(err, refusal.ErrTorn) && !errors.Is(err, &refusal.Error{Reason: refusal.Memory}) {
			return err
		}
		last = err
	}
	return last
}

// plausible judges one snapshot.
func (p *Process) plausible(s *Snapshot) error {
	wrong := func(format string, args ...any) error {
		return refusal.New(refusal.Memory, nil, "the memory of process %d does not match the runtime's layout: "+format,
			append([]any{p.pid}, args...)...)
	}
	if int(s.GOMAXPROCS) != len(s.Ps) {
		return refusal.New(refusal.Torn, nil, "process %d has %d Ps but GOMAXPROCS %d", p.pid, len(s.Ps), s.GOMAXPROCS)
	}
	carried, idle := 0, 0
	for i := range s.Ps {
		ps := &s.Ps[i]
		switch {
		case !ps.OK:
			return wrong("P %d is not where it should be", i)
		case ps.RunqDepth < 0 || ps.RunqDepth > 257:
			return wrong("the run queue of P %d is broken", i)
		case ps.Status == layout.StatusIdle:
			idle++
		}
		if ps.M != 0 {
			carried++
		}
	}
	// Ps that change hands between the two reads are normal, but not most of them in each of several looks.
	if s.Moved > (carried+1)/2 && s.Moved > 1 {
		return wrong("%d of %d Ps are carried by an M that says otherwise", s.Moved, carried)
	}
	if n := int(s.Sched.NPIdle); n < 0 || n > len(s.Ps) {
		return wrong("%d of %d Ps are idle", n, len(s.Ps))
	}
	if s.Sched.RunqSize < 0 || s.Sched.NMSpinning < 0 || int(s.Sched.NMSpinning) > len(s.Ms)+len(s.Ps) {
		return wrong("the scheduler's counts are broken")
	}
	if s.Sched.StopWait < 0 || int(s.Sched.StopWait) > len(s.Ps) {
		return wrong("a stop waits for %d Ps", s.Sched.StopWait)
	}
	return p.plausibleMs(s, wrong)
}

// plausibleMs checks that the Ms are threads of the process.
func (p *Process) plausibleMs(s *Snapshot, wrong func(string, ...any) error) error {
	started := false
	for i := range s.Ms {
		started = started || s.Ms[i].ProcID != 0
	}
	if !started && len(s.Ms) <= 1 {
		// the first M learns its thread id after schedinit (runtime/proc.go, mstart1 and minit)
		return refusal.ErrNotStarted
	}
	if len(p.known) == 0 {
		return wrong("its list of threads is empty")
	}
	threads, strangers := 0, 0
	for i := range s.Ms {
		m := &s.Ms[i]
		if m.ProcID == 0 {
			continue // being created, or an extra M kept for C threads
		}
		threads++
		if m.TID == 0 || !p.hasThread(m.TID) {
			strangers++
		}
	}
	if threads > 0 && strangers == threads && p.forked() {
		return refusal.New(refusal.Forked, nil, "process %d was forked from a process that runs Go, and has not "+
			"executed a "+
			"program since: the runtime's threads stayed behind in its parent", p.pid)
	}
	if !p.hasFirst(s) {
		return wrong("the list of its threads lacks the first")
	}
	// A thread may end between the two looks.
	if threads == 0 || strangers > threads/2 {
		return wrong("%d of its %d Ms name a thread it does not have", strangers, threads)
	}
	return nil
}

// hasFirst says whether the runtime's first M is in its list. The runtime never takes it out (runtime/proc.go, mexit).
// It is the process's first thread. Where C code started the process, and Go came in a library or an archive, it is a
// thread that the library started (runtime/asm_amd64.s, _rt0_amd64_lib).
func (p *Process) hasFirst(s *Snapshot) bool {
	for i := range s.Ms {
		m := &s.Ms[i]
		if int(m.TID) == p.pid && p.library == nil || m.ID == 0 && p.bin.Cgo && m.TID != 0 && p.hasThread(m.TID) {
			return true
		}
	}
	return false
}

// forked says whether the process has executed nothing since it was forked (PF_FORKNOEXEC in include/linux/sched.h).
func (p *Process) forked() bool {
	const forkedNoExec = 0x40
	fields, err := statFields("/proc", p.pid)
	if err != nil {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return err == nil && flags&forkedNoExec != 0
}

// validateVersion compares runtime.buildVersion with the file's build information.
func (p *Process) validateVersion() error {
	addr := p.Addr(p.bin.Vars.BuildVersion)
	if addr == 0 || p.bin.GoVersion == "" {
		return nil
	}
	var header [16]byte
	if err := p.ReadMemory(addr, header[:]); err != nil {
		return p.diagnose(err)
	}
	ptr, size := u64(header[:], 0), u64(header[:], 8)
	if size != uint64(len(p.bin.GoVersion)) || size > 1024 {
		return refusal.New(refusal.Memory, nil, "runtime.buildVersion of process %d is %d bytes long, not %q",
			p.pid, size, p.bin.GoVersion)
	}
	text := make([]byte, size)
	if err := p.ReadMemory(ptr, text); err != nil {
		return p.diagnose(err)
	}
	if string(text) != p.bin.GoVersion {
		return refusal.New(refusal.Memory, nil, "runtime.buildVersion of process %d is %.40q, not %q",
			p.pid, text, p.bin.GoVersion)
	}
	return nil
}
