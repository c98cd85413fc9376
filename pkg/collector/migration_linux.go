package collector

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
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// migrationHost is what tier 2 of one target needs of its target.
type migrationHost interface {
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

// migrationConfig is what tier 2 of a target needs.
type migrationConfig struct {
	kernel *kernel.Side
	heart  *kernel.Heartbeat
	limits *kernel.Limits
	proc   procfs.FS
	log    *slog.Logger // with the process
	host   migrationHost
	pid    int32
	target uint32 // its place in the table of targets
	goid   uint32 // offset of goid in a g
}

// migrationCounter is tier 2 of one target.
type migrationCounter struct {
	migrationConfig

	end  context.CancelFunc
	done chan struct{}

	// Its own goroutine's.
	site    goruntime.ProbeSite
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
	note    func(migrationWindow) // for tests
}

// rest stops counting until the next window, which then stands for itself only.
func (m *migrationCounter) rest() { m.restAt(ledger.Monotonic()) }

// restAt is rest from a time on, CLOCK_MONOTONIC, that has passed already.
func (m *migrationCounter) restAt(at int64) {
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

// view adds what has been counted to the view of the target.
func (m *migrationCounter) view(v *pstate.TargetView) {
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

// newMigrations prepares tier 2 of a target.
func newMigrations(c migrationConfig) *migrationCounter { return &migrationCounter{migrationConfig: c} }

// start begins to count with the probe at a place.
func (m *migrationCounter) start(site goruntime.ProbeSite) {
	m.site = site
	ctx, cancel := context.WithCancel(context.Background())
	m.end, m.done, m.lastAt = cancel, make(chan struct{}), ledger.Monotonic()
	w := &m.kernel.MigrationWindows[m.target]
	atomic.StoreUint64(&w.End, 0)
	w.G_goid, w.SetMask = m.goid, uint32(m.kernel.Objects.LastRan.MaxEntries()-1)
	go func() {
		defer close(m.done)
		m.watch(ctx)
	}()
}

// stop ends it and waits until the probe is out of the target's code. Nobody may hold a lock who calls it.
func (m *migrationCounter) stop() {
	if m.end != nil {
		m.end()
		<-m.done
	}
}

// whyOff says why nothing is counted; empty: it is.
func (m *migrationCounter) whyOff() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.off
}

// setOff notes why nothing is counted; empty: it is.
func (m *migrationCounter) setOff(why string) {
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
	if m.host.MigrationsChanged(why) && why != "" {
		m.log.Info("goroutine migrations are not counted", "reason", why)
	}
}

// watch takes window after window. Only this goroutine attaches and detaches tier 2, and it holds no lock when it does.
func (m *migrationCounter) watch(ctx context.Context) {
	for {
		// The phase is random, so that a window is no more likely to meet one part of what the target does at a steady pace
		// than another.
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
			m.setOff(fmt.Sprintf("a window of %v would cost %v of its CPU time, for which the %.2g %% that --cost-budget "+
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
		case m.limits.Windows <- struct{}{}:
		case <-ctx.Done():
			return
		}
		pauses := m.heart.Pauses.Load()
		got, err := m.window(ctx, length)
		<-m.limits.Windows
		switch {
		case ctx.Err() != nil, errors.Is(err, goruntime.ErrExited), errors.Is(err, goruntime.ErrExeced):
			return // whoever finds that out ends the observation
		case err != nil:
			m.setOff(err.Error())
			if !sleep(ctx, offFor) {
				return
			}
			continue
		}
		if m.heart.Silent() || m.heart.Pauses.Load() != pauses {
			continue // the agent was not running for a part of it
		}
		m.pace.pay(got.cost, time.Duration(got.end-got.begin))
		m.takeWindow(got)
		m.setOff("")
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
func (m *migrationCounter) budget() (share float64, ok bool) {
	stat, err := m.proc.Stat(m.pid)
	if err != nil {
		return 0, false // it is ending
	}
	now := ledger.Monotonic()
	share, floor, left := m.host.Budget()
	if left {
		m.rest()
	}
	if m.lastCPU > 0 {
		m.pace.pass(time.Duration(now-m.lastAt), stat.CPU-m.lastCPU, share, floor)
	}
	m.lastAt, m.lastCPU = now, stat.CPU
	return share, !left && m.pace.begun
}
