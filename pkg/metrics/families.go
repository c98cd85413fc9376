package metrics

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// Kind is the type of a metric.
type Kind uint8

// The kinds.
const (
	Counter Kind = iota
	Gauge
	Histogram
)

// String gives the word the Prometheus formats use.
func (k Kind) String() string { return [...]string{"counter", "gauge", "histogram"}[k] }

// Family describes one metric of the public contract.
type Family struct {
	// Name of the series; of a counter it ends in _total.
	Name string
	Help string
	Unit string // seconds, bytes, hertz or empty
	Kind Kind
	// Labels beside TargetLabels.
	Labels []string
}

// TargetLabels lists the labels of a series about a target: the first three always, the others where they are known.
// Every series has the first one.
func TargetLabels() []string {
	return []string{"host", "process", "process_pid", "runtime", "container", "pod", "namespace", "cgroup"}
}

// by makes the table of families easier to read.
func by(names ...string) []string { return names }

// Families lists every metric there can be, in the order of exposition.
func Families() []Family {
	fs := make([]Family, len(families))
	for i := range families {
		fs[i] = families[i].Family
	}
	return fs
}

// family is a Family with the way its samples are got: from the agent as a whole, from a target, or from each P of a
// target.
type family struct {
	Family
	agent  func(w *walk, snap *Snapshot)
	target func(w *walk, v *pstate.TargetView, t *targetSlots)
	p      func(w *walk, v *pstate.TargetView, p *pstate.PView, s *pSlots)
}

// families is the public contract, in the order of exposition.
var families = []family{
	{Family: Family{"pscope_p_seconds_total", "Seconds each P spent in each P state. Over all states they sum to " +
		"wall " +
		"time.", "seconds", Counter, by("p", "state")},
		p: func(w *walk, _ *pstate.TargetView, p *pstate.PView, s *pSlots) {
			for state := range pstate.State(pstate.NumStates) {
				w.seconds(&s.state[state], s, p.StateTime(state), "state", state)
			}
		}},
	{Family: Family{"pscope_p_thread_seconds_total", "Seconds each P's thread spent in each kernel thread state; " +
		"none: " +
		"no thread carried the P.", "seconds", Counter, by("p", "thread_state")},
		p: func(w *walk, _ *pstate.TargetView, p *pstate.PView, s *pSlots) {
			for ts := range pstate.ThreadState(pstate.NumThreadStates) {
				w.seconds(&s.thread[ts], s, p.ThreadTime(ts), "thread_state", ts)
			}
		}},
	{Family: Family{"pscope_p_uninterruptible_seconds_total", "Seconds in which a thread that carries or last " +
		"carried " +
		"the P was in uninterruptible sleep. Its rate is the D share.", "seconds", Counter, by("p")},
		p: func(w *walk, _ *pstate.TargetView, p *pstate.PView, s *pSlots) {
			w.seconds(&s.uninterruptible, s, p.Uninterruptible, "", nil)
		}},
	{Family: Family{"pscope_p_runq_depth", "Mean number of goroutines queued on the P, the one in runnext included, " +
		"over the looks since the last sample.", "", Gauge, by("p")},
		p: func(w *walk, v *pstate.TargetView, p *pstate.PView, s *pSlots) {
			if p.RunqDepth >= 0 {
				mean := s.runqSeen.mean(v.At, w.set.atLeast, p.RunqLooks(), p.RunqSum, float64(p.RunqDepth))
				w.float(&s.runq, s, mean, "", nil)
			}
		}},
	{Family: Family{"pscope_p_runq_depth_distribution", "How often each depth of the P's run queue was seen.",
		"", Histogram, by("p")},
		p: func(w *walk, _ *pstate.TargetView, p *pstate.PView, s *pSlots) {
			if h := runqHistogram(&p.RunqHist, p.RunqSum); h.count > 0 {
				w.hist(&s.runqHist, s, h, "", nil)
			}
		}},
	{Family: Family{"pscope_runq_depth", "Mean number of goroutines in the process's global run queue over the looks " +
		"since the last sample.", "", Gauge, nil},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			if v.GlobalRunq >= 0 {
				mean := t.globalRunqSeen.mean(v.At, w.set.atLeast, v.GlobalRunqLooks, v.GlobalRunqSum,
					float64(v.GlobalRunq))
				w.float(&t.globalRunq, t, mean, "", nil)
			}
		}},
	{Family: Family{"pscope_p_sched_ticks_total", "Rounds of the scheduler on the P (p.schedtick).", "", Counter,
		by("p")},
		p: func(w *walk, _ *pstate.TargetView, p *pstate.PView, s *pSlots) {
			w.float(&s.schedTicks, s, float64(p.SchedTick), "", nil)
		}},
	{Family: Family{"pscope_p_syscalls_total", "System calls made with the P (p.syscalltick).", "", Counter, by("p")},
		p: func(w *walk, _ *pstate.TargetView, p *pstate.PView, s *pSlots) {
			w.float(&s.syscalls, s, float64(p.SyscallTick), "", nil)
		}},
	{Family: Family{"pscope_p_wake_wait_seconds", "Time from a P being handed to a thread until that thread ran on a " +
		"CPU.", "seconds", Histogram, by("p")},
		p: func(w *walk, v *pstate.TargetView, p *pstate.PView, s *pSlots) {
			if v.Source == pstate.SourceEBPF {
				w.hist(&s.wakeWait, s, durationHistogram(&p.WakeWait), "", nil)
			}
		}},
	{Family: Family{"pscope_stop_seconds", "Duration of stop-the-world intervals by reason.",
		"seconds", Histogram, by("reason")},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			for _, reason := range sorted(v.StopHist) {
				h := v.StopHist[reason]
				w.hist(keyed(&t.stops, reason), t, durationHistogram(&h), "reason", word(reason))
			}
		}},
	{Family: Family{"pscope_p_stop_seconds_total", "Seconds the P spent halted in stops.", "seconds", Counter, by("p")},
		p: func(w *walk, v *pstate.TargetView, p *pstate.PView, s *pSlots) {
			if v.Source == pstate.SourceEBPF {
				w.seconds(&s.stopTime, s, p.StopTime, "", nil)
			}
		}},
	{Family: Family{"pscope_p_transitions_total", "Changes of P state.", "", Counter, by("p", "from", "to")},
		p: func(w *walk, v *pstate.TargetView, p *pstate.PView, s *pSlots) {
			// Samples see a fraction of the changes: a number of them would be no measurement.
			if v.Source != pstate.SourceEBPF {
				return
			}
			for from := range p.Transitions {
				for to, n := range p.Transitions[from] {
					if n > 0 {
						w.transitions(s, pstate.State(from), pstate.State(to), n)
					}
				}
			}
		}},
	{Family: Family{"pscope_goroutine_migrations_total", "Goroutines that started to run on the P after they had run " +
		"on another, extrapolated from windows; with --migrations only.", "", Counter, by("p")},
		p: func(w *walk, v *pstate.TargetView, p *pstate.PView, s *pSlots) {
			if v.Migrations.Counted {
				w.float(&s.migrations, s, float64(p.Migrations), "", nil)
			}
		}},
	{Family: Family{"pscope_migration_windows_seconds_total", "Seconds in which goroutine migrations were " +
		"watched; the " +
		"rest is extrapolated.", "seconds", Counter, nil},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			if v.Migrations.Watched > 0 {
				w.seconds(&t.watched, t, v.Migrations.Watched, "", nil)
			}
		}},
	{Family: Family{"pscope_migration_known_ratio", "Share of the goroutines that started in the last window of " +
		"which " +
		"it was known where they had run last.", "", Gauge, nil},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			if v.Migrations.Counted {
				w.float(&t.knownStarts, t, v.Migrations.Known, "", nil)
			}
		}},
	{Family: Family{"pscope_cgroup_cpu_limit_cores", "The tightest CPU quota of the process's control group and " +
		"those " +
		"above it, in cores; set_by: the group that sets it. Absent where there is none.", "", Gauge, by("set_by")},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			if l, ok := v.Cgroup.Tightest(); ok {
				w.float(keyed(&t.limit, l.Path), t, l.Cores, "set_by", word(l.Path))
			}
		}},
	throttling(Family{"pscope_cgroup_throttled_seconds_total", "Seconds in which a CPU quota of the process's " +
		"control " +
		"group, or of one above it, kept threads from running, summed over CPUs.", "seconds", Counter, by("set_by")},
		func(t *targetSlots) *map[string]*slot { return &t.throttled },
		func(l *pstate.CPULimit) float64 { return seconds(l.Throttled) }),
	throttling(Family{"pscope_cgroup_throttled_periods_total", "Periods of a CPU quota in which it was used up.", "",
		Counter, by("set_by")},
		func(t *targetSlots) *map[string]*slot { return &t.throttledPeriods },
		func(l *pstate.CPULimit) float64 { return float64(l.ThrottledPeriods) }),
	throttling(Family{"pscope_cgroup_periods_total", "Periods of a CPU quota in which its control group had " +
		"something " +
		"to run.", "", Counter, by("set_by")},
		func(t *targetSlots) *map[string]*slot { return &t.periods },
		func(l *pstate.CPULimit) float64 { return float64(l.Periods) }),
	{Family: Family{"pscope_cgroup_pressure_seconds_total", "Seconds in which threads of the process's control group " +
		"waited for a resource; kind: some, at least one did; full, all that had something to do did.", "seconds",
		Counter, by("resource", "kind")},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			if v.Cgroup == nil {
				return
			}
			for i := range v.Cgroup.Pressure {
				p := &v.Cgroup.Pressure[i]
				if p.HasSome {
					w.pair(keyed(&t.pressure, p.Resource+" some"), t, seconds(p.Some), "resource", p.Resource, "kind",
						"some")
				}
				if p.HasFull {
					w.pair(keyed(&t.pressure, p.Resource+" full"), t, seconds(p.Full), "resource", p.Resource, "kind",
						"full")
				}
			}
		}},
	{Family: Family{"pscope_cgroup_unreadable", "1 for what can't be read of the process's control groups (cpu, " +
		"pressure, freezer), with the reason.", "", Gauge, by("what", "reason")},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			if v.Cgroup == nil {
				return
			}
			for _, what := range sorted(v.Cgroup.Unreadable) {
				why := v.Cgroup.Unreadable[what]
				w.pair(keyed(&t.unreadable, what+" "+why), t, 1, "what", what, "reason", why)
			}
		}},
	{Family: Family{"pscope_cpu_frequency_hertz", "Present frequency of each CPU.", "hertz", Gauge, by("cpu")},
		agent: func(w *walk, snap *Snapshot) {
			for i := range snap.CPUs {
				c := &snap.CPUs[i]
				if c.Hertz > 0 {
					w.agentFloat(c.Hertz, "cpu", c.CPU)
				}
			}
		}},
	{Family: Family{"pscope_cpu_frequency_seconds_total", "Seconds each CPU spent in each frequency band.",
		"seconds", Counter, by("cpu", "band")},
		agent: func(w *walk, snap *Snapshot) {
			for i := range snap.CPUs {
				c := &snap.CPUs[i]
				for _, b := range c.Bands {
					w.agentFloat(b.Time.Seconds(), "cpu", c.CPU, "band", b.Name())
				}
			}
		}},
	{Family: Family{"pscope_lost_events_total", "Events and records that are missing from the picture, by reason.",
		"", Counter, by("reason")},
		agent: func(w *walk, snap *Snapshot) {
			for _, reason := range sorted(snap.Lost) {
				w.agentFloat(float64(snap.Lost[reason]), "reason", reason)
			}
		},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			for _, reason := range sorted(v.Lost) {
				w.float(keyed(&t.lost, reason), t, float64(v.Lost[reason]), "reason", word(reason))
			}
		}},
	{Family: Family{"pscope_reconciliations_total", "Times the observed state of a P was repaired against the " +
		"runtime's memory, by reason.", "", Counter, by("reason")},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			for _, reason := range sorted(v.Reconciled) {
				w.float(keyed(&t.reconciled, reason), t, float64(v.Reconciled[reason]), "reason", word(reason))
			}
		}},
	{Family: Family{"pscope_probe_seconds_total", "CPU time spent in probes on behalf of the target, by tier.",
		"seconds", Counter, by("tier")},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			for _, tier := range sorted(v.ProbeTime) {
				w.float(keyed(&t.probe, tier), t, v.ProbeTime[tier].Seconds(), "tier", word(tier))
			}
		}},
	{Family: Family{"pscope_governor_level", "What is left out so that observing stays within its " +
		"budget: " + levels() + ".", "", Gauge, nil},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			if v.Governor.Governed {
				w.float(&t.governor, t, float64(v.Governor.Level), "", nil)
			}
		}},
	{Family: Family{"pscope_probe_cost_ratio", "Share of the target's CPU time that observing it took when last " +
		"measured.", "", Gauge, nil},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			if v.Governor.Governed {
				w.float(&t.probeCost, t, v.Governor.Share, "", nil)
			}
		}},
	{Family: Family{"pscope_observed_ratio", "Share of the time in which the target is observed event by event: 1, " +
		"less while the governor leaves out all but windows, 0 by snapshots only.", "", Gauge, nil},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			if v.Governor.Governed {
				w.float(&t.observed, t, v.Governor.Observed, "", nil)
			}
		}},
	{Family: Family{"pscope_agent_paused_seconds_total", "Seconds in which the process was not observed because the " +
		"agent was stopped or got no CPU; no other counter contains them.", "seconds", Counter, nil},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) { w.seconds(&t.paused, t, v.Paused, "", nil) }},
	self(Family{"process_cpu_seconds_total", "User and system CPU time of the agent.", "seconds", Counter, nil}),
	self(Family{"process_resident_memory_bytes", "Resident memory of the agent.", "bytes", Gauge, nil}),
	self(Family{"process_open_fds", "Open file descriptors of the agent.", "", Gauge, nil}),
	self(Family{"process_start_time_seconds", "When the agent started, in seconds since the Unix epoch.",
		"seconds", Gauge, nil}),
	self(Family{"pscope_history_up", "1 if the process that keeps the history writes and answers, else 0.",
		"", Gauge, nil}),
	self(Family{"pscope_history_restarts_total", "Times that process was started again.", "", Counter, nil}),
	self(Family{"pscope_history_clock_steps_total", "Steps of the wall clock that the history has met.",
		"", Counter, nil}),
	self(Family{"pscope_history_cpu_seconds_total", "User and system CPU time of the process that keeps the history.",
		"seconds", Counter, nil}),
	self(Family{"pscope_history_resident_memory_bytes", "Resident memory of the process that keeps the history.",
		"bytes", Gauge, nil}),
	self(Family{"pscope_log_messages_folded_total", "Messages that the agent did not log one by one; its log gives " +
		"their number, in a line for each kind and minute.", "", Counter, nil}),
	self(Family{"pscope_config_last_reload_successful", "1 if the configuration file could be used when it was read " +
		"last, else 0: the settings before are in use.", "", Gauge, nil}),
	self(Family{"pscope_config_last_reload_success_timestamp_seconds", "When a configuration file that could be used " +
		"was read last, in seconds since the Unix epoch.", "seconds", Gauge, nil}),
	{Family: Family{"pscope_build_info", "The agent's version; always 1.",
		"", Gauge, by("version", "goversion", "goarch", "mode")},
		agent: func(w *walk, snap *Snapshot) {
			w.agentFloat(1, "version", w.set.version, "goversion", w.set.goVersion, "goarch", w.set.goArch, "mode",
				snap.Mode)
		}},
	{Family: Family{"pscope_target_info", "How each Go process is observed, or why it is not; always 1.",
		"", Gauge, by("go_version", "source", "layout", "reason")},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			w.info(t, &v.Target)
		}},
	{Family: Family{"go_runtime_gomaxprocs", "GOMAXPROCS of the process.", "", Gauge, nil},
		target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
			if v.GOMAXPROCS > 0 {
				w.float(&t.gomaxprocs, t, float64(v.GOMAXPROCS), "", nil)
			}
		}},
	{Family: Family{"go_runtime_p_status", "1 for the present status of the P (0=Idle 1=Running 2=Syscall 3=GCstop " +
		"4=Dead), else 0. The label pid is the P's index.", "", Gauge, by("pid", "status")},
		p: func(w *walk, _ *pstate.TargetView, p *pstate.PView, s *pSlots) {
			w.status(s, p.State.RuntimeStatus())
		}},
}

// levels says what each level of the governor leaves out.
func levels() string {
	out := pstate.GovernorLevels()
	for i := range out {
		out[i] = strconv.Itoa(i) + " " + out[i]
	}
	return strings.Join(out, ", ")
}

// throttling is a metric of every quota that holds for a target.
func throttling(f Family, slots func(*targetSlots) *map[string]*slot, of func(*pstate.CPULimit) float64) family {
	return family{Family: f, target: func(w *walk, v *pstate.TargetView, t *targetSlots) {
		if v.Cgroup == nil {
			return
		}
		for i := range v.Cgroup.Limits {
			l := &v.Cgroup.Limits[i]
			same := func(o pstate.CPULimit) bool { return o.Path == l.Path }
			if slices.IndexFunc(v.Cgroup.Limits, same) != i {
				continue // two long paths that were cut to the same: the one nearer to the process stands for them
			}
			w.float(keyed(slots(t), l.Path), t, of(l), "set_by", word(l.Path))
		}
	}}
}

// word is a label value that is already a string.
type word string

func (w word) String() string { return string(w) }

// mostKeyed is from how many keys on those without a series are forgotten.
const mostKeyed = 64

// keyed gives the slot for a reason or tier, made where there is none.
func keyed(m *map[string]*slot, key string) **slot {
	if *m == nil {
		*m = make(map[string]*slot)
	}
	s, ok := (*m)[key]
	if !ok {
		if len(*m) >= mostKeyed { // some come from outside: a process may be moved through any number of groups
			maps.DeleteFunc(*m, func(_ string, s *slot) bool { return !s.built })
		}
		s = new(slot)
		(*m)[key] = s
	}
	return &s
}

func sorted[V any](m map[string]V) []string {
	if len(m) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(m))
}

// hist is a histogram on its way out: counts in buckets of exponentially growing width, from index first on.
type hist struct {
	schema    int32
	first     int32 // native index of counts[0]
	zero      uint64
	counts    []uint64
	count     uint64 // zero and counts together
	sum       float64
	classic   []int // indexes into counts after which a classic bucket ends
	zeroBound bool  // the zero bucket is a classic bucket of its own
}

// durationClassic are the classic buckets of durations: powers of four from 0.95 µs to 4 s. The exact ones, powers of
// the square root of two, are in the native form.
var durationClassic = func() (at []int) {
	for e := -20; e <= 2; e += 2 {
		at = append(at, 2*e-pstate.HistMin)
	}
	return at
}()

func durationHistogram(h *pstate.Histogram) hist {
	out := hist{schema: pstate.HistSchema, first: pstate.HistMin, counts: h.Buckets[:], sum: h.Sum.Seconds(),
		classic: durationClassic}
	// The count is that of the buckets, whatever a reader in between saw of the field.
	for _, n := range h.Buckets {
		out.count += n
	}
	return out
}

var runqClassic = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}

// runqHistogram gives depths: 0 in the zero bucket, the others in powers of two. Its sum by its count is the mean depth
// over all looks, ten a second by default: what bursts between two scrapes add is in it.
func runqHistogram(b *[pstate.RunqBuckets]uint64, sum uint64) hist {
	out := hist{zero: b[0], counts: b[1:], classic: runqClassic, zeroBound: true, sum: float64(sum)}
	for _, n := range b {
		out.count += n
	}
	return out
}

// seconds is exact to the nanosecond for the first hundred days.
func seconds(d time.Duration) float64 { return float64(d) / 1e9 }
