package collector

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/lack"
)

// stopHost is what the probes of tier 1 need of their target.
type stopHost interface {
	// OpenExecutable opens the file in which the probes go.
	OpenExecutable() (*os.File, error)
	// Ended says whether the process, or its observation, has ended.
	Ended() bool
	// StopsChanged says that WhyNoStops gives something else.
	StopsChanged()
}

// stopConfig is what the probes of a target need.
type stopConfig struct {
	kernel *kernel.Side
	heart  *kernel.Heartbeat
	limits *kernel.Limits
	log    *slog.Logger // with the process
	host   stopHost
	bin    *goruntime.Binary
	pid    int32
	shared *kern.ScopeTarget // the target's entry in the kernel side's table
}

// stopProbes are the probes of tier 1 in the code of one target: all of them or none.
//
// They are attached and taken out aside: each takes the kernel a grace period at least, seconds on a busy machine.
// Until they are in, a target is observed without stops, and its reason says so.
type stopProbes struct {
	stopConfig

	working sync.WaitGroup // while they are attached or taken out
	gone    chan struct{}  // closed when the observation ends

	mu     sync.Mutex // guards what follows
	wanted bool
	failed bool // they could not be attached; not tried again until they are wanted anew
	busy   bool // a goroutine is about it
	closed bool
	links  []io.Closer
	why    string // why stops are not seen, as a reason of the target; empty: they are
}

// newStopProbes prepares them. why says why stops are not seen until they are attached, as a reason of the target.
func newStopProbes(c stopConfig, why string) *stopProbes {
	return &stopProbes{stopConfig: c, gone: make(chan struct{}), why: why}
}

// errGone says that the observation ended meanwhile.
var errGone = errors.New("the observation has ended")

// want says whether the probes are to be in the target's code, and returns at once.
func (p *stopProbes) want(want bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setWanted(want)
}

func (p *stopProbes) setWanted(want bool) {
	if want && !p.wanted {
		p.failed = false
	}
	p.wanted = want
	if !p.busy && p.differ() {
		p.busy = true
		p.working.Go(p.adjust)
	}
}

// close begins to take them out for good.
func (p *stopProbes) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	close(p.gone)
	p.setWanted(false)
}

// wait waits until they are out, after close.
func (p *stopProbes) wait() { p.working.Wait() }

// whyNoStops says why stops are not seen, as a reason of the target; empty: they are.
func (p *stopProbes) whyNoStops() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

// kinds says how they are attached: one entry for each kind of link.
func (p *stopProbes) kinds() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	kinds := map[string]bool{}
	for _, l := range p.links {
		kinds[kernel.LinkKind(l)] = true
	}
	return slices.Sorted(maps.Keys(kinds))
}

// forget drops a stop of the world of which the end, or the begin, may have been missed.
func (p *stopProbes) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shared
	kernel.ExpectNoStops(s)
	atomic.StoreUint64(&s.StopStart, 0)
	atomic.StoreUint64(&s.StopBegun, 0)
	atomic.StoreUint32(&s.StopTid, 0)
	if len(p.links) > 0 {
		kernel.ExpectStops(s) // of the present one only the end will be seen
	}
}

// differ says whether something is to be done about the probes. The caller holds mu.
func (p *stopProbes) differ() bool {
	if p.wanted && !p.closed {
		return len(p.links) == 0 && !p.failed
	}
	return len(p.links) > 0
}

// adjust attaches the probes or takes them out until they are as they are wanted.
func (p *stopProbes) adjust() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.differ() {
		if len(p.links) > 0 {
			p.takeOut()
			continue
		}
		p.bringIn()
	}
	p.busy = false
}

// takeOut takes the probes out of the target's code. The caller holds mu, which is free meanwhile.
func (p *stopProbes) takeOut() {
	links := p.links
	p.mu.Unlock()
	p.limits.Detach(links)
	p.mu.Lock()
	p.links = nil
	// A stop that is going on has lost its end; the snapshots free the Ps that it halted.
	kernel.ExpectNoStops(p.shared)
	atomic.StoreUint64(&p.shared.StopStart, 0)
	atomic.StoreUint32(&p.shared.StopTid, 0)
	atomic.StoreUint32(&p.shared.EndsLate, 0)
}

// bringIn attaches the probes and says in the target's description what became of it. The caller holds mu, which is
// free meanwhile.
func (p *stopProbes) bringIn() {
	pauses := p.heart.Pauses.Load()
	p.mu.Unlock()
	links, err := p.attachWithin()
	p.mu.Lock()
	p.links = links
	if err == nil {
		if p.heart.Pauses.Load() != pauses && !p.closed {
			kernel.ExpectStops(p.shared) // whoever brought everything up to date did not know of these probes
		}
		p.setWhy("")
		return
	}
	p.failed = true
	kernel.ExpectNoStops(p.shared)
	atomic.StoreUint32(&p.shared.EndsLate, 0)
	p.mu.Unlock()
	ended := p.host.Ended()
	p.mu.Lock()
	if ended {
		return // the next snapshot finds that it has ended
	}
	// The totals are right without it: only stops are missing.
	err = kernel.ExplainProbe(err)
	p.setWhy(lack.NoStops(err.Error()))
	p.log.Warn("no stop-the-world probes", "err", err)
}

// setWhy notes why stops are not seen. The caller holds mu, which is free meanwhile.
func (p *stopProbes) setWhy(why string) {
	p.why = why
	p.mu.Unlock()
	p.host.StopsChanged()
	p.mu.Lock()
}

// maxAttach is for how long the probes of a target may be being attached. Each takes seconds on a busy machine.
const maxAttach = time.Minute

// attachWithin attaches all probes of tier 1 to the program of a process, or none. For as long as that takes it is one
// of a few, so a file that does not answer is given up: both opening it and attaching a probe may wait for it.
func (p *stopProbes) attachWithin() ([]io.Closer, error) {
	if err := worldProbesMissing(p.bin); err != nil {
		return nil, err
	}
	file, err := p.host.OpenExecutable()
	if err != nil {
		return nil, err
	}
	select {
	case <-p.gone:
		file.Close()
		return nil, errGone
	case p.limits.Attaching <- struct{}{}:
	}
	defer func() { <-p.limits.Attaching }()
	givenUp := make(chan struct{})
	links, err := kernel.GiveUpAfter(p.limits.Hung, maxAttach, func() ([]io.Closer, error) {
		defer file.Close()
		return p.attach(file, givenUp)
	}, p.limits.Detach)
	if errors.Is(err, goruntime.ErrNoAnswer) {
		close(givenUp)
	}
	return links, err
}

// attach attaches all probes of tier 1, or none, until it is given up.
func (p *stopProbes) attach(file *os.File, givenUp <-chan struct{}) (links []io.Closer, err error) {
	defer func() {
		if err != nil {
			p.limits.Detach(links)
			links = nil
		}
	}()
	over := func() bool {
		select {
		case <-p.gone:
			return true
		case <-givenUp:
			return true
		default:
			return false
		}
	}
	k := p.kernel
	for _, probe := range []struct {
		name string
		prog *ebpf.Program
	}{
		{goruntime.WorldStarted, k.Objects.WorldStarted}, // first: the others must know whether a stop's end will be told
		{kernel.StartProbe, k.Objects.StartWorld},
		{kernel.StopProbe, k.Objects.StopWorld},
	} {
		site, ok := p.bin.Probe(probe.name)
		if !ok {
			continue // the first: not every release of Go has it
		}
		if over() {
			return links, errGone
		}
		if probe.name == kernel.StopProbe {
			kernel.ExpectStops(p.shared)
		}
		l, err := k.Probes.Attach(kernel.SiteIn(file, site, p.pid), probe.prog)
		if err != nil {
			return links, err
		}
		links = append(links, l)
		if over() { // that may have taken long: the tables may be gone
			return links, errGone
		}
		if probe.name == goruntime.WorldStarted {
			atomic.StoreUint32(&p.shared.EndsLate, 1)
		}
	}
	return links, nil
}

// worldProbesMissing says that a program lacks what tier 1 probes; nil: it has it.
func worldProbesMissing(bin *goruntime.Binary) error {
	for _, name := range []string{kernel.StartProbe, kernel.StopProbe} {
		if _, ok := bin.Probe(name); !ok {
			return fmt.Errorf("%s is not in the program", name)
		}
	}
	return nil
}
