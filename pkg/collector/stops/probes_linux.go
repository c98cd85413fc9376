// Package stops is tier 1: the probes that tell when a target stops and starts its world.
package stops

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
	"github.com/p-scope/p-scope/pkg/goruntime/probes"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/lack"
)

// Host is what the probes of tier 1 need of their target.
type Host interface {
	// OpenExecutable opens the file in which the probes go.
	OpenExecutable() (*os.File, error)
	// Ended says whether the process, or its observation, has ended.
	Ended() bool
	// StopsChanged says that WhyNoStops gives something else.
	StopsChanged()
}

// Config is what the probes of a target need.
type Config struct {
	Kernel *kernel.Side
	Heart  *kernel.Heartbeat
	Limits *kernel.Limits
	Log    *slog.Logger // with the process
	Host   Host
	Bin    *goruntime.Binary
	PID    int32
	Shared *kern.ScopeTarget // the target's entry in the kernel side's table
}

// Probes are the probes of tier 1 in the code of one target: all of them or none.
//
// They are attached and taken out aside: each takes the kernel a grace period at least, seconds on a busy machine.
// Until they are in, a target is observed without stops, and its reason says so.
type Probes struct {
	Config

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

// New prepares them. why says why stops are not seen until they are attached, as a reason of the target.
func New(c Config, why string) *Probes {
	return &Probes{Config: c, gone: make(chan struct{}), why: why}
}

// errGone says that the observation ended meanwhile.
var errGone = errors.New("the observation has ended")

// Want says whether the probes are to be in the target's code, and returns at once.
func (p *Probes) Want(want bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setWanted(want)
}

func (p *Probes) setWanted(want bool) {
	if want && !p.wanted {
		p.failed = false
	}
	p.wanted = want
	if !p.busy && p.differ() {
		p.busy = true
		p.working.Go(p.adjust)
	}
}

// Close begins to take them out for good.
func (p *Probes) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	close(p.gone)
	p.setWanted(false)
}

// Wait waits until they are out, after close.
func (p *Probes) Wait() { p.working.Wait() }

// WhyNoStops says why stops are not seen, as a reason of the target; empty: they are.
func (p *Probes) WhyNoStops() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

// Kinds says how they are attached: one entry for each kind of link.
func (p *Probes) Kinds() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	kinds := map[string]bool{}
	for _, l := range p.links {
		kinds[kernel.LinkKind(l)] = true
	}
	return slices.Sorted(maps.Keys(kinds))
}

// Forget drops a stop of the world of which the end, or the begin, may have been missed.
func (p *Probes) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.Shared
	kernel.ExpectNoStops(s)
	atomic.StoreUint64(&s.StopStart, 0)
	atomic.StoreUint64(&s.StopStartRuntime, 0)
	atomic.StoreUint32(&s.StopTid, 0)
	if len(p.links) > 0 {
		kernel.ExpectStops(s) // of the present one only the end will be seen
	}
}

// differ says whether something is to be done about the probes. The caller holds mu.
func (p *Probes) differ() bool {
	if p.wanted && !p.closed {
		return len(p.links) == 0 && !p.failed
	}
	return len(p.links) > 0
}

// adjust attaches the probes or takes them out until they are as they are wanted.
func (p *Probes) adjust() {
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
func (p *Probes) takeOut() {
	links := p.links
	p.mu.Unlock()
	p.Limits.Detach(links)
	p.mu.Lock()
	p.links = nil
	// A stop that is going on has lost its end; the snapshots free the Ps that it halted.
	kernel.ExpectNoStops(p.Shared)
	atomic.StoreUint64(&p.Shared.StopStart, 0)
	atomic.StoreUint32(&p.Shared.StopTid, 0)
	atomic.StoreUint32(&p.Shared.EndProbeAttached, 0)
}

// bringIn attaches the probes and says in the target's description what became of it. The caller holds mu, which is
// free meanwhile.
func (p *Probes) bringIn() {
	pauses := p.Heart.Pauses.Load()
	p.mu.Unlock()
	links, err := p.attachWithin()
	p.mu.Lock()
	p.links = links
	if err == nil {
		if p.Heart.Pauses.Load() != pauses && !p.closed {
			kernel.ExpectStops(p.Shared) // whoever brought everything up to date did not know of these probes
		}
		p.setWhy("")
		return
	}
	p.failed = true
	kernel.ExpectNoStops(p.Shared)
	atomic.StoreUint32(&p.Shared.EndProbeAttached, 0)
	p.mu.Unlock()
	ended := p.Host.Ended()
	p.mu.Lock()
	if ended {
		return // the next snapshot finds that it has ended
	}
	// The totals are right without it: only stops are missing.
	err = kernel.ExplainProbe(err)
	p.setWhy(lack.NoStops(err.Error()))
	p.Log.Warn("no stop-the-world probes", "err", err)
}

// setWhy notes why stops are not seen. The caller holds mu, which is free meanwhile.
func (p *Probes) setWhy(why string) {
	p.why = why
	p.mu.Unlock()
	p.Host.StopsChanged()
	p.mu.Lock()
}

// maxAttach is for how long the probes of a target may be being attached. Each takes seconds on a busy machine.
const maxAttach = time.Minute

// attachWithin attaches all probes of tier 1 to the program of a process, or none. For as long as that takes it is one
// of a few, so a file that does not answer is given up: both opening it and attaching a probe may wait for it.
func (p *Probes) attachWithin() ([]io.Closer, error) {
	if err := Missing(p.Bin); err != nil {
		return nil, err
	}
	file, err := p.Host.OpenExecutable()
	if err != nil {
		return nil, err
	}
	select {
	case <-p.gone:
		file.Close()
		return nil, errGone
	case p.Limits.Attaching <- struct{}{}:
	}
	defer func() { <-p.Limits.Attaching }()
	givenUp := make(chan struct{})
	links, err := kernel.GiveUpAfter(p.Limits.Hung, maxAttach, func() ([]io.Closer, error) {
		defer file.Close()
		return p.attach(file, givenUp)
	}, p.Limits.Detach)
	if errors.Is(err, refusal.ErrNoAnswer) {
		close(givenUp)
	}
	return links, err
}

// attach attaches all probes of tier 1, or none, until it is given up.
func (p *Probes) attach(file *os.File, givenUp <-chan struct{}) (links []io.Closer, err error) {
	defer func() {
		if err != nil {
			p.Limits.Detach(links)
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
	k := p.Kernel
	for _, probe := range []struct {
		name string
		prog *ebpf.Program
	}{
		{probes.WorldStarted, k.Objects.WorldStarted}, // first: the others must know whether a stop's end will be told
		{kernel.StartProbe, k.Objects.StartWorld},
		{kernel.StopProbe, k.Objects.StopWorld},
	} {
		site, ok := p.Bin.Probe(probe.name)
		if !ok {
			continue // the first: not every release of Go has it
		}
		if over() {
			return links, errGone
		}
		if probe.name == kernel.StopProbe {
			kernel.ExpectStops(p.Shared)
		}
		l, err := k.Probes.Attach(kernel.SiteIn(file, site, p.PID), probe.prog)
		if err != nil {
			return links, err
		}
		links = append(links, l)
		if over() { // that may have taken long: the tables may be gone
			return links, errGone
		}
		if probe.name == probes.WorldStarted {
			atomic.StoreUint32(&p.Shared.EndProbeAttached, 1)
		}
	}
	return links, nil
}

// Missing says that a program lacks what tier 1 probes; nil: it has it.
func Missing(bin *goruntime.Binary) error {
	for _, name := range []string{kernel.StartProbe, kernel.StopProbe} {
		if _, ok := bin.Probe(name); !ok {
			return fmt.Errorf("%s is not in the program", name)
		}
	}
	return nil
}
