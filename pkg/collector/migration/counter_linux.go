package migration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/goruntime/probes"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Host is what tier 2 of one target needs of its target.
type Host interface {
	// Budget is which share of the target's CPU time tiers 0 and 1 leave to tier 2, and how many CPUs that is at least.
	// left is true while tier 2 is left out.
	Budget() (share, floor float64, left bool)
	// Slots are the places of the Ps in the tables of the kernel side. The error says that the observation has ended.
	Slots() ([]int, error)
	// OpenExecutable opens the file in which the probe goes.
	OpenExecutable() (*os.File, error)
	// Migrations takes in why nothing is counted; empty: it is. It is false if the observation has ended.
	MigrationsChanged(why string) bool
}

// Config is what tier 2 of a target needs.
type Config struct {
	Kernel     *kernel.Side
	Heart      *kernel.Heartbeat
	Limits     *kernel.Limits
	Proc       procfs.FS
	Log        *slog.Logger // with the process
	Host       Host
	PID        int32
	Target     uint32 // its place in the table of targets
	GoidOffset uint32 // offset of goid in a g
}

// Counter is tier 2 of one target.
type Counter struct {
	Config

	end  context.CancelFunc
	done chan struct{}

	// Its own goroutine's.
	site    probes.Site
	number  uint32
	pace    pace
	lastCPU time.Duration
	lastAt  int64

	mu      sync.Mutex // guards what follows
	off     string     // why nothing is counted
	lastEnd int64      // of a window; CLOCK_MONOTONIC; 0: nothing is counted at present
	watched time.Duration
	cost    time.Duration
	share   float64 // of the target's CPU time, over the last windows
	known   float64 // part of the starts in the last window whose goroutine had been seen before in it
	counts  []extrapolated
	note    func(Window) // for tests
}

// rest stops counting until the next window, which then stands for itself only.
func (m *Counter) rest() { m.RestAt(ledger.Monotonic()) }

// RestAt is rest from a time on, CLOCK_MONOTONIC, that has passed already.
func (m *Counter) RestAt(at int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lastEnd == 0 {
		return
	}
	for i := range m.counts {
		m.counts[i].rest(time.Duration(max(at-m.lastEnd, 0)))
	}
	m.lastEnd = 0
}

// View adds what has been counted to the view of the target.
func (m *Counter) View(v *pstate.TargetView) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v.Migrations = pstate.Migrations{Counted: m.lastEnd != 0, Watched: m.watched, Known: m.known}
	if m.watched > 0 {
		v.ProbeTime["2"] = m.cost
	}
	if m.lastEnd == 0 {
		return
	}
	v.Governor.Share += m.share
	since := time.Duration(ledger.Monotonic() - m.lastEnd)
	for i := range min(len(v.Ps), len(m.counts)) {
		v.Ps[i].Migrations = uint64(m.counts[i].at(since))
	}
}

// New prepares tier 2 of a target.
func New(c Config) *Counter { return &Counter{Config: c} }

// Start begins to count with the probe at a place.
func (m *Counter) Start(site probes.Site) {
	m.site = site
	ctx, cancel := context.WithCancel(context.Background())
	m.end, m.done, m.lastAt = cancel, make(chan struct{}), ledger.Monotonic()
	w := &m.Kernel.MigrationWindows[m.Target]
	atomic.StoreUint64(&w.End, 0)
	w.G_goid, w.SetMask = m.GoidOffset, uint32(m.Kernel.Objects.LastRan.MaxEntries()-1)
	go func() {
		defer close(m.done)
		m.watch(ctx)
	}()
}

// OnWindow makes each window that has been counted be given to a function. For tests.
func (m *Counter) OnWindow(fn func(Window)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note = fn
}

// ExpectAll makes windows be expected to cost all of the target's CPU time, so that none ends early. For tests, before
// start or after stop.
func (m *Counter) ExpectAll() { m.pace = pace{uses: 1, intensity: 1, tried: true} }

// Ended is closed when nothing is counted any more, after start.
func (m *Counter) Ended() <-chan struct{} { return m.done }

// Stop ends it and waits until the probe is out of the target's code. Nobody may hold a lock who calls it.
func (m *Counter) Stop() {
	if m.end != nil {
		m.end()
		<-m.done
	}
}

// WhyOff says why nothing is counted; empty: it is.
func (m *Counter) WhyOff() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.off
}

// SetOff notes why nothing is counted; empty: it is.
func (m *Counter) SetOff(why string) {
	m.mu.Lock()
	same := m.off == why
	m.off = why
	m.mu.Unlock()
	if same {
		return
	}
	if why != "" {
		m.rest()
	}
	if m.Host.MigrationsChanged(why) && why != "" {
		m.Log.Info("goroutine migrations are not counted", "reason", why)
	}
}

// watch takes window after window. Only this goroutine attaches and detaches tier 2, and it holds no lock when it does.
func (m *Counter) watch(ctx context.Context) {
	for {
		// The phase is random, so that a window is no more likely to meet one part of what the target does at a steady
		// pace than another.
		if !sleep(ctx, windowGap/2+rand.N(windowGap)) {
			return
		}
		left, ok := m.budget()
		if !ok {
			continue
		}
		length := m.pace.length()
		wait, ok := m.pace.wait(length)
		switch {
		case !ok:
			m.SetOff(fmt.Sprintf("a window of %v would cost %v of its CPU time, for which the %.2g %% that "+
				"--cost-budget "+
				"leaves would have to be saved for more than %v",
				length, m.pace.expected(length).Round(100*time.Microsecond), 100*left, maxWait))
			if !sleep(ctx, offFor) {
				return
			}
			m.pace = pace{} // it may have become another
			continue
		case wait > 0:
			if !sleep(ctx, wait) {
				return
			}
			continue
		}
		select {
		case m.Limits.Windows <- struct{}{}:
		case <-ctx.Done():
			return
		}
		pauses := m.Heart.Pauses.Load()
		got, err := m.Count(ctx, length)
		<-m.Limits.Windows
		switch {
		case ctx.Err() != nil, errors.Is(err, refusal.ErrExited), errors.Is(err, refusal.ErrExeced):
			return // whoever finds that out ends the observation
		case err != nil:
			m.SetOff(err.Error())
			if !sleep(ctx, offFor) {
				return
			}
			continue
		}
		if m.Heart.Silent() || m.Heart.Pauses.Load() != pauses {
			continue // the agent was not running for a part of it
		}
		m.pace.pay(got.Cost, time.Duration(got.End-got.Begin))
		m.takeWindow(got)
		m.SetOff("")
	}
}

// sleep is false if there is no more reason to wake.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// budget brings the pace up to the present and gives the budget. ok is false while the governor leaves tier 2 out.
func (m *Counter) budget() (share float64, ok bool) {
	stat, err := m.Proc.Stat(m.PID)
	if err != nil {
		return 0, false // it is ending
	}
	now := ledger.Monotonic()
	share, floor, left := m.Host.Budget()
	if left {
		m.rest()
	}
	if m.lastCPU > 0 {
		m.pace.pass(time.Duration(now-m.lastAt), stat.CPU-m.lastCPU, share, floor)
	}
	m.lastAt, m.lastCPU = now, stat.CPU
	return share, !left && m.pace.begun
}
