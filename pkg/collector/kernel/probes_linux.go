package kernel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime/probes"
	"github.com/p-scope/p-scope/pkg/lack"
)

// How the probes of tiers 1 and 2 get into a target's code. Which way a kernel and these privileges allow is found by
// trying it on the agent itself, never by a version number. docs/decisions/privileges.md says why these ways and in
// this order.

// ProbeWay is one of them.
type ProbeWay int

const (
	NoProbes     ProbeWay = iota // none; probes.why says what stands in the way
	MultiProbes                  // a multi-uprobe link for each process: CAP_BPF and CAP_PERFMON are enough
	PerfProbes                   // a perf event for each process: takes CAP_SYS_ADMIN since mid-2025
	SharedProbes                 // a multi-uprobe link for all processes that run a file
)

func (w ProbeWay) String() string {
	return [...]string{"none", "multi-uprobe links", "perf events", "multi-uprobe links without a filter"}[w]
}

// Probes attaches them.
type Probes struct {
	way ProbeWay
	why error // nil unless way is noProbes

	mu     sync.Mutex
	shared map[sharedSite]*sharedProbe
}

// sharedSite is where a probe is that all processes share that run the file.
type sharedSite struct {
	dev, ino uint64
	offset   uint64
	prog     *ebpf.Program
}

// sharedProbe is taken out with its last user. Each user closes it once.
type sharedProbe struct {
	// mu is held while it is attached and taken out, so that there are never two of a site: a hit would count twice.
	mu    sync.Mutex
	users int
	link  link.Link
}

// site is where a probe goes.
type site struct {
	file   *os.File // the very file that was inspected, see process.Process.OpenExecutable
	name   string   // of the function, for messages
	offset uint64   // in the file
	pid    int
}

// SiteIn is where a probe of a process goes in the file that it runs, which process.Process.OpenExecutable gave.
func SiteIn(file *os.File, at probes.Site, pid int32) site {
	return site{file: file, name: at.Func, offset: at.FileOffset, pid: int(pid)}
}

// Attach makes a program run whenever a process passes a place in its code. The programs look whether the process is a
// target, because others may pass there too. Closing what it gives takes the probe out again and waits until no CPU can
// be in the program.
func (p *Probes) Attach(s site, prog *ebpf.Program) (io.Closer, error) {
	var (
		l   io.Closer
		err error
	)
	switch p.way {
	case MultiProbes:
		l, err = attachMulti(s, prog)
	case PerfProbes:
		l, err = attachPerf(s, prog)
	case SharedProbes:
		l, err = p.attachShared(s, prog)
	default:
		return nil, p.why
	}
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", s.name, err)
	}
	return l, nil
}

// executable gives the file by its descriptor: a path through the process would be followed anew, perhaps into another
// program.
func (s site) executable() (*link.Executable, error) {
	return link.OpenExecutable(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()))
}

// attachMulti makes a multi-uprobe link (Linux 6.6). A process 0 is all of them.
func attachMulti(s site, prog *ebpf.Program) (link.Link, error) {
	exe, err := s.executable()
	if err != nil {
		return nil, err
	}
	l, err := exe.UprobeMulti(nil, prog, &link.UprobeMultiOptions{Addresses: []uint64{s.offset}, PID: uint32(s.pid)})
	runtime.KeepAlive(s.file)
	return l, err
}

// attachPerf makes a perf event.
func attachPerf(s site, prog *ebpf.Program) (link.Link, error) {
	exe, err := s.executable()
	if err != nil {
		return nil, err
	}
	l, err := exe.Uprobe(s.name, prog, &link.UprobeOptions{Address: s.offset, PID: s.pid})
	runtime.KeepAlive(s.file)
	return l, err
}

// attachShared makes one link for all processes that run the file, or uses the one that is there.
func (p *Probes) attachShared(s site, prog *ebpf.Program) (io.Closer, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.file.Fd()), &st); err != nil {
		return nil, err
	}
	at := sharedSite{uint64(st.Dev), st.Ino, s.offset, prog}
	p.mu.Lock()
	sh := p.shared[at]
	if sh == nil {
		sh = &sharedProbe{}
		p.shared[at] = sh
	}
	sh.users++ // from here on it is not forgotten
	p.mu.Unlock()
	u := &sharedUser{p: p, at: at, probe: sh}
	sh.mu.Lock()
	var err error
	if sh.link == nil {
		all := s
		all.pid = 0
		sh.link, err = attachMulti(all, prog)
	}
	sh.mu.Unlock()
	if err != nil {
		_ = u.Close()
		return nil, err
	}
	return u, nil
}

// sharedUser is one target's use of a shared probe.
type sharedUser struct {
	p     *Probes
	at    sharedSite
	probe *sharedProbe
	once  sync.Once
}

func (u *sharedUser) Close() (err error) {
	u.once.Do(func() {
		u.probe.mu.Lock()
		defer u.probe.mu.Unlock()
		u.p.mu.Lock()
		u.probe.users--
		last := u.probe.users == 0
		u.p.mu.Unlock()
		if !last {
			return
		}
		if u.probe.link != nil {
			err = u.probe.link.Close()
			u.probe.link = nil
		}
		u.p.mu.Lock()
		// Somebody may have come meanwhile, who is waiting for the probe to be gone and then attaches it anew.
		if u.probe.users == 0 {
			delete(u.p.shared, u.at)
		}
		u.p.mu.Unlock()
	})
	return err
}

// choose prepares the programs for the way that works here.
func (p *Probes) choose(spec *ebpf.CollectionSpec) {
	p.shared = map[sharedSite]*sharedProbe{}
	p.way, p.why = findProbeWay(tryProbes)
	p.prepare(spec)
}

// prepare says to the kernel how the programs will be attached, which it wants to know when it loads them.
func (p *Probes) prepare(spec *ebpf.CollectionSpec) {
	if p.way != MultiProbes && p.way != SharedProbes {
		return
	}
	for _, prog := range spec.Programs {
		if prog.Type == ebpf.Kprobe {
			prog.AttachType = ebpf.AttachTraceUprobeMulti
		}
	}
}

// findProbeWay tries one way after the other. From Linux 6.6 to 6.9 the PID of a multi-uprobe link is compared with
// that of the thread, so that only the first thread of a process is seen. There perf events are better, and where they
// are not permitted, links without a filter.
func findProbeWay(try func(way ProbeWay) (allThreads bool, err error)) (ProbeWay, error) {
	all, multi := try(MultiProbes)
	if multi == nil && all {
		return MultiProbes, nil
	}
	all, perf := try(PerfProbes)
	if perf == nil && all {
		return PerfProbes, nil
	}
	if multi == nil {
		if all, err := try(SharedProbes); err == nil && all {
			return SharedProbes, nil
		}
	}
	return NoProbes, explainNoProbes(multi, perf)
}

// noProbesError says why no probe can be attached.
type noProbesError struct{ multi, perf error }

// explainNoProbes makes one reason of the two.
func explainNoProbes(multi, perf error) error { return &noProbesError{multi, perf} }

func (e *noProbesError) Error() string {
	switch {
	case e.multi == nil || e.perf == nil:
		return "the kernel takes probes but does not run their programs"
	case e.kernelOld() && denied(e.perf):
		return "this kernel has no multi-uprobe links (Linux 6.6 and later have them), and probes by perf events " +
			"need " +
			"CAP_SYS_ADMIN here: " + e.perf.Error()
	case e.kernelOld():
		return fmt.Sprintf("this kernel has neither multi-uprobe links (%v) nor uprobes by perf events (%v)", e.multi,
			e.perf)
	}
	return fmt.Sprintf("multi-uprobe links: %v; perf events: %v", e.multi, e.perf)
}

func (e *noProbesError) Unwrap() []error {
	var out []error
	for _, err := range []error{e.multi, e.perf} {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}

// kernelOld is whether the kernel does not know multi-uprobe links: it takes the program's kind for wrong, or the
// link's.
func (e *noProbesError) kernelOld() bool {
	return errors.Is(e.multi, ebpf.ErrNotSupported) || errors.Is(e.multi, unix.EINVAL) ||
		errors.Is(e.multi, unix.EOPNOTSUPP)
}

func denied(err error) bool { return errors.Is(err, os.ErrPermission) }

// Fix says what the user can do.
func (e *noProbesError) Fix() string {
	switch {
	case e.kernelOld() && denied(e.perf):
		return "use Linux 6.6 or later, or give the agent CAP_SYS_ADMIN as well"
	case denied(e.multi):
		return lack.GivePrivileges()
	}
	return "use a kernel that is built with CONFIG_UPROBES and CONFIG_UPROBE_EVENTS"
}

// tryProbes is tryOnItself; tests put another in its place.
var tryProbes = tryOnItself

// errOtherWay is what a way that is not to be taken is answered with.
var errOtherWay = fmt.Errorf("another way is to be taken: %w", unix.EACCES)

// ForceProbeWay makes every kernel side that is loaded from now on take a way, as on a kernel that has no better one,
// until undo is called. It is for tests. ok is false if the kernel at hand does not have it, or does not permit it.
func ForceProbeWay(way ProbeWay) (undo func(), ok bool, err error) {
	all, err := tryOnItself(way)
	why := &noProbesError{multi: err}
	switch {
	case denied(err), err != nil && way != PerfProbes && why.kernelOld():
		return nil, false, err
	case err != nil:
		return nil, true, err
	case !all:
		return nil, true, errors.New("not all threads run the program")
	}
	tryProbes = func(w ProbeWay) (bool, error) {
		if w == MultiProbes && way == SharedProbes {
			return false, nil // it is taken to see the first thread only
		}
		if w != way {
			return false, errOtherWay
		}
		return tryOnItself(w)
	}
	return func() { tryProbes = tryOnItself }, true, nil
}

// Way is the way that is taken.
func (p *Probes) Way() ProbeWay { return p.way }

// SharedSites is how many sites have a probe that processes share.
func (p *Probes) SharedSites() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.shared)
}

// callsOfTry is how often each of two threads passes the probe in tryOnItself.
const callsOfTry = 3

// tryOnItself attaches a program that counts to the agent's own code and says whether hits of all threads ran it.
func tryOnItself(way ProbeWay) (allThreads bool, err error) {
	s, err := siteInItself()
	if err != nil {
		return false, err
	}
	counter, err := newHitCounter(way)
	if err != nil {
		s.file.Close()
		return false, err
	}
	p := Probes{way: way, shared: map[sharedSite]*sharedProbe{}}
	l, err := p.Attach(s, counter.prog)
	if err == nil {
		callOnTwoThreads()
		var hits uint64
		if err = counter.hits.Lookup(uint32(0), &hits); err == nil {
			allThreads = hits >= 2*callsOfTry // and more, if another agent runs the same file and there is no filter
		}
	}
	// The kernel takes its time to let go of a probe; nobody waits for it.
	go func() {
		if l != nil {
			_ = l.Close()
		}
		counter.close()
		s.file.Close()
	}()
	return allThreads, err
}

// siteInItself is a place in the agent's code that nothing but a try passes. The caller closes the file.
func siteInItself() (s site, err error) {
	s = site{name: "trapped", pid: os.Getpid()}
	if s.file, err = os.Open("/proc/self/exe"); err != nil {
		return s, err
	}
	if s.offset, err = trappedOffset(s.file); err != nil {
		s.file.Close()
	}
	return s, err
}

// callOnTwoThreads passes the probe on two threads at the same time, one of which at least is not the process's first.
func callOnTwoThreads() {
	var both, done sync.WaitGroup
	both.Add(2)
	for range 2 {
		done.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			both.Done()
			both.Wait() // each has a thread of its own by now
			for n := range callsOfTry {
				trapped(n)
			}
		})
	}
	done.Wait()
}

// hitCounter is a program that counts its runs.
type hitCounter struct {
	hits *ebpf.Map
	prog *ebpf.Program
}

func newHitCounter(way ProbeWay) (c hitCounter, err error) {
	c.hits, err = ebpf.NewMap(&ebpf.MapSpec{Name: "hits", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return c, err
	}
	spec := &ebpf.ProgramSpec{
		Name: "count_hits", Type: ebpf.Kprobe, License: "GPL",
		Instructions: asm.Instructions{
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.LoadMapPtr(asm.R1, c.hits.FD()),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
			asm.Return(),
		},
	}
	if way != PerfProbes {
		spec.AttachType = ebpf.AttachTraceUprobeMulti
	}
	if c.prog, err = ebpf.NewProgram(spec); err != nil {
		c.hits.Close()
	}
	return c, err
}

func (c hitCounter) close() {
	_ = c.prog.Close()
	_ = c.hits.Close()
}
