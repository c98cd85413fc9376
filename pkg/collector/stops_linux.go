package collector

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	goprobes "github.com/p-scope/p-scope/pkg/goruntime/probes"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	gorefusal "github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/lack"
)

// The probes of tier 1 are attached and taken out aside: each takes the kernel a grace period at least, seconds on a
// busy machine. Until they are in, a target is observed without stops, and its reason says so.

const (
	attachesAtOnce = 16  // targets to which probes are attached at the same time
	unprobesAtOnce = 256 // probes that are taken out at the same time: those share the kernel's grace periods
)

// stopsState is how far the probes of tier 1 are. The mu of the observed guards it.
type stopsState struct {
	wanted bool
	failed bool // they could not be attached; not tried again until they are wanted anew
	busy   bool // a goroutine is about it
}

// errGone says that the observation ended meanwhile.
var errGone = errors.New("the observation has ended")

// wantStops says whether the probes of tier 1 are to be in the target's code, and returns at once. The caller holds mu.
func (o *observed) wantStops(want bool) {
	s := &o.stopsState
	if want && !s.wanted {
		s.failed = false
	}
	s.wanted = want
	if !s.busy && o.stopsDiffer() {
		s.busy = true
		o.probing.Go(o.adjustStops)
	}
}

// stopsDiffer says whether something is to be done about the probes. The caller holds mu.
func (o *observed) stopsDiffer() bool {
	s := &o.stopsState
	if s.wanted && !o.closed {
		return len(o.links) == 0 && !s.failed
	}
	return len(o.links) > 0
}

// adjustStops attaches the probes or takes them out until they are as they are wanted.
func (o *observed) adjustStops() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.stopsDiffer() {
		if len(o.links) > 0 {
			o.takeOutStops()
			continue
		}
		o.bringInStops()
	}
	o.stopsState.busy = false
}

// takeOutStops takes the probes out of the target's code. The caller holds mu, which is free meanwhile.
func (o *observed) takeOutStops() {
	links := o.links
	o.mu.Unlock()
	o.c.unprobe(links)
	o.mu.Lock()
	o.links = nil
	// A stop that is going on has lost its end; the snapshots free the Ps that it halted.
	o.expectNoStops()
	atomic.StoreUint64(&o.shared.StopStart, 0)
	atomic.StoreUint32(&o.shared.StopTid, 0)
	atomic.StoreUint32(&o.shared.EndProbeAttached, 0)
}

// bringInStops attaches the probes and says in the target's description what became of it. The caller holds mu, which
// is free meanwhile.
func (o *observed) bringInStops() {
	proc, pauses := o.proc, o.c.heart.pauses.Load()
	o.mu.Unlock()
	links, err := o.stopProbes(proc)
	o.mu.Lock()
	o.links = links
	if err == nil {
		if o.c.heart.pauses.Load() != pauses && !o.closed {
			o.expectStops() // whoever brought everything up to date did not know of these probes
		}
		o.fullReason = ""
		o.describeLevel()
		return
	}
	o.stopsState.failed = true
	o.expectNoStops()
	atomic.StoreUint32(&o.shared.EndProbeAttached, 0)
	if o.closed || o.proc.Alive() != nil {
		return // the next snapshot finds that it has ended
	}
	// The totals are right without it: only stops are missing.
	err = explainProbe(err)
	o.fullReason = lack.NoStops(err.Error())
	o.describeLevel()
	o.c.o.Log.Warn("no stop-the-world probes", "process", o.info.Process, "pid", o.info.PID, "err", err)
}

// attachWithin is for how long the probes of a target may be being attached. Each takes seconds on a busy machine.
const attachWithin = time.Minute

// stopProbes attaches all probes of tier 1 to the program of a process, or none. For as long as that takes it is one of
// a few, so a file that does not answer is given up: both opening it and attaching a probe may wait for it.
func (o *observed) stopProbes(proc *process.Process) ([]io.Closer, error) {
	if err := worldProbesMissing(o.bin); err != nil {
		return nil, err
	}
	closeLate := func(f *os.File) {
		if f != nil {
			f.Close()
		}
	}
	file, err := within(o.c, answerWithin, proc.OpenExecutable, closeLate)
	if err != nil {
		return nil, err
	}
	select {
	case <-o.gone:
		file.Close()
		return nil, errGone
	case o.c.attaching <- struct{}{}:
	}
	defer func() { <-o.c.attaching }()
	givenUp := make(chan struct{})
	links, err := within(o.c, attachWithin, func() ([]io.Closer, error) {
		defer file.Close()
		return o.attachStops(file, givenUp)
	}, o.c.unprobe)
	if errors.Is(err, gorefusal.ErrNoAnswer) {
		close(givenUp)
	}
	return links, err
}

// attachStops attaches all probes of tier 1, or none, until it is given up.
func (o *observed) attachStops(file *os.File, givenUp <-chan struct{}) (links []io.Closer, err error) {
	defer func() {
		if err != nil {
			o.c.unprobe(links)
			links = nil
		}
	}()
	over := func() bool {
		select {
		case <-o.gone:
			return true
		case <-givenUp:
			return true
		default:
			return false
		}
	}
	k := o.c.kernel
	for _, probe := range []struct {
		name string
		prog *ebpf.Program
	}{
		{goprobes.WorldStarted, k.objs.WorldStarted}, // first: the others must know whether a stop's end will be told
		{startProbe, k.objs.StartWorld},
		{stopProbe, k.objs.StopWorld},
	} {
		site, ok := o.bin.Probe(probe.name)
		if !ok {
			continue // the first: not every release of Go has it
		}
		if over() {
			return links, errGone
		}
		if probe.name == stopProbe {
			o.expectStops()
		}
		l, err := k.probes.attach(o.site(file, site), probe.prog)
		if err != nil {
			return links, err
		}
		links = append(links, l)
		if over() { // that may have taken long: the tables may be gone
			return links, errGone
		}
		if probe.name == goruntime.WorldStarted {
			atomic.StoreUint32(&o.shared.EndProbeAttached, 1)
		}
	}
	return links, nil
}

// site is where a probe goes in the file that the process runs, which process.Process.OpenExecutable gave.
func (o *observed) site(file *os.File, at goprobes.Site) site {
	return site{file: file, name: at.Func, offset: at.FileOffset, pid: int(o.info.PID)}
}

// unprobe takes probes out of a target's code. For each the kernel waits until no task can be in its program any more:
// a grace period of Tasks Trace RCU (kernel/events/uprobes.c, uprobe_unregister_sync), tens of milliseconds at best and
// half a second on a busy machine, in uninterruptible sleep. Those who wait at the same time share it, and so the
// probes are not taken out one after the other.
func (c *collect) unprobe(links []io.Closer) {
	var wg sync.WaitGroup
	for _, l := range links {
		wg.Go(func() {
			c.unprobing <- struct{}{}
			_ = l.Close()
			<-c.unprobing
		})
	}
	wg.Wait()
}
