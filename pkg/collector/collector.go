// Package collector observes the Ps of every Go process on the host: by eBPF where the host allows it, else by reading
// the processes' memory now and then.
//
// It finds targets, keeps their P records (in memory shared with the BPF programs of bpf/), repairs them against
// snapshots of the runtime's own structures, and hands out consistent views. Intervals and stops go to a Sink as they
// close.
//
// What it does has packages of its own, whose imports run one way. kern has the BPF objects and the types that C and Go
// share; ledger the books of a P; estimate what happened while a P was not observed; govern how much is observed at
// which cost; share the room of each user in the kernel's tables; kernel the agent's side of the BPF programs; stops
// and migration the probes of tiers 1 and 2; target one target under observation; discover the search for processes.
// This package puts them together and has the loop.
package collector

import (
	"context"
	"log/slog"
	"regexp"
	"runtime"
	"time"

	"github.com/p-scope/p-scope/pkg/agentinfo"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Collector gives what is known of the targets. All methods may be called concurrently, before, during and after Run.
type Collector interface {
	// Run observes until ctx is done. It returns an error only if nothing can be observed at all.
	Run(ctx context.Context) error
	// Views gives every observed target, each consistent in itself at one instant not before now and brought up to it.
	// Totals never decrease from call to call. Targets that ended or are refused are not in it. It is empty while the
	// agent has not caught up after it was stopped or starved: what is held of the targets then is out of date.
	Views(now time.Time) []pstate.TargetView
	// Targets gives every Go process found, also those refused, with the reason.
	Targets() []pstate.Target
	// Agent says what this host allows.
	Agent() AgentInfo
	// LastRound is when the loop of Run last went round, which it does several times a second; before Run, when the
	// Collector was made. It takes no lock, so that it answers whatever hangs.
	LastRound() time.Time
}

// Chooser is what a Collector of this host also is.
type Chooser interface {
	// Choose changes Options.Include and Options.Exclude while the collector runs: what was left out is looked for, and
	// the observation of what is left out now ends.
	Choose(include, exclude *regexp.Regexp)
}

// Sink receives raw records as they close. pkg/timeline's Store is one.
type Sink = target.Sink

// AgentInfo describes the observing side.
type AgentInfo = agentinfo.Info

// Lack is one thing that this host or these privileges don't allow.
type Lack = lack.Lack

// Mode chooses how targets are observed.
type Mode string

// The modes of the flag --mode.
const (
	ModeAuto     Mode = "auto"     // eBPF if possible, else snapshots
	ModeEBPF     Mode = "ebpf"     // eBPF or an error
	ModeSnapshot Mode = "snapshot" // snapshots even where eBPF is possible
)

// Options set up a Collector. The zero value of a field means its default.
type Options struct {
	Mode    Mode
	Include *regexp.Regexp // matched against process name and executable path; nil: everything
	Exclude *regexp.Regexp // wins over Include; nil: nothing
	Sink    Sink           // may be nil
	Log     *slog.Logger

	SnapshotEvery time.Duration // default 100 ms
	SampleHz      int           // cpu-clock samples a second on each CPU, default 99
	MaxPs         int           // P records over all targets, default DefaultPs, at most MostPs
	MaxThreads    int           // threads over all targets, default four for each of MaxPs, at most MostThreads
	RingBytes     int           // ring buffer, a power of two, default 1 MiB
	// IntervalBudget is how many raw intervals a second one target may send; above it only the totals go on, and the
	// loss is counted. Default 5000.
	IntervalBudget int
	// HostIntervalBudget is likewise what all targets together may send, shared fairly. Default 10000, and no less than
	// IntervalBudget.
	HostIntervalBudget int
	ProcRoot           string // default /proc
	// Only is the one process to look at; 0: all. For trying on a child what an agent would do.
	Only int32
	// Except are processes that Examine leaves out besides its own.
	Except []int32
	// CostBudget is the share of a target's CPU time that observing it may take; what would pass it is left out step by
	// step. 0: 2 %; negative: no limit.
	CostBudget float64
	// CostFloor is the share of one CPU below which what observing costs never matters. 0: half a hundredth; negative:
	// 0.
	CostFloor float64
	// Migrations asks for tier 2: goroutine migrations, counted in short windows at random times within what tiers 0
	// and 1 leave of CostBudget (2 % if that has no limit).
	Migrations bool
	// Windows makes every target observed for one second in as many, whatever that costs, as the governor does where
	// observing it all the time costs too much. 0: as the governor says. For measuring what the windows miss.
	Windows int
	// TimeRuns makes the kernel side keep how long each run of the scheduler's programs takes, in its map run_times.
	// For measuring: it costs each event three looks at the clock.
	TimeRuns bool
	// ShowArguments puts the arguments of a process into Target.Cmdline; without it there is only what the process
	// calls itself, since arguments often hold passwords.
	ShowArguments bool
	// NoStops leaves out the probes of tier 1, the only ones that are in a target's code: stops are not seen then.
	NoStops bool
}

// The bounds of the tables in the kernel. A P takes about 1.2 KiB of its memory, a thread about 400 bytes.
const (
	MostPs      = 65_520 // a P's place in the table has 16 bits in bpf/types.h
	MostThreads = 4 * 65_536
	leastPs     = 4096
	psPerCPU    = 64 // so many processes may have a P for each CPU
)

// DefaultPs is the room for Ps on a machine with so many CPUs.
func DefaultPs(cpus int) int { return min(max(leastPs, cpus*psPerCPU), MostPs) }

func (o *Options) defaults() {
	if o.Mode == "" {
		o.Mode = ModeAuto
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Sink == nil {
		o.Sink = discard{}
	}
	if o.SnapshotEvery <= 0 {
		o.SnapshotEvery = 100 * time.Millisecond
	}
	if o.SampleHz <= 0 {
		o.SampleHz = 99
	}
	if o.MaxPs <= 0 {
		o.MaxPs = DefaultPs(runtime.NumCPU())
	}
	if o.MaxThreads <= 0 {
		o.MaxThreads = min(4*max(o.MaxPs, leastPs), MostThreads)
	}
	if o.RingBytes <= 0 {
		o.RingBytes = 1 << 20
	}
	if o.IntervalBudget <= 0 {
		o.IntervalBudget = 5000
	}
	if o.HostIntervalBudget <= 0 {
		o.HostIntervalBudget = 10_000
	}
	o.HostIntervalBudget = max(o.HostIntervalBudget, o.IntervalBudget)
	if o.CostBudget == 0 {
		o.CostBudget = 0.02
	}
	switch {
	case o.CostFloor == 0:
		o.CostFloor = 0.005
	case o.CostFloor < 0:
		o.CostFloor = 0
	}
	if o.ProcRoot == "" {
		o.ProcRoot = "/proc"
	}
}

type discard struct{}

func (discard) Append(pstate.Key, []pstate.Interval) {}
func (discard) AppendStop(pstate.Key, pstate.Stop)   {}
func (discard) Lost(pstate.Key, string, uint64)      {}
func (discard) End(pstate.Key, int64)                {}
