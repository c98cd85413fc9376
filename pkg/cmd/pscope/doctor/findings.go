//go:build linux

package doctor

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// findings says what the trial showed, a line for each thing. A line that is ok was seen to work.
func (t *Trial) findings() []Check {
	cs := []Check{t.eBPF(), t.memory()}
	for _, c := range []Check{t.switches(), t.wakeUps(), t.stops(), t.samples(), t.onCPU(), t.migrations()} {
		if !c.Tried && c.Result == OK {
			c.Result, c.Detail = Unknown, "not tried: "+t.whyUntried()
		}
		if t.Source != pstate.SourceEBPF {
			c = Check{Name: c.Name, Result: Unknown, Detail: "not tried: " + t.whyUntried()}
		}
		cs = append(cs, c)
	}
	if len(t.Lost) > 0 {
		var lost []string
		for _, reason := range slices.Sorted(maps.Keys(t.Lost)) {
			lost = append(lost, fmt.Sprintf("%d %s", t.Lost[reason], reason))
		}
		cs = append(cs, Check{Name: "losses", Result: Info, Tried: true, Detail: "of the child process were lost: " +
			strings.Join(lost, ", "),
			Why: "what each means: docs/runbooks/pscope-lost-events.md"})
	}
	return cs
}

// whyUntried is what kept the trial from going on.
func (t *Trial) whyUntried() string {
	switch {
	case t.Mode == "":
		return "see eBPF"
	case t.Failed != "":
		return t.Failed
	case t.lacks(lack.EBPF) != nil:
		return "eBPF is missing"
	}
	return "the trial had not come so far"
}

func (t *Trial) eBPF() Check {
	const name = "eBPF"
	switch l := t.lacks(lack.EBPF); {
	case l != nil:
		return Check{Name: name, Tried: true, Result: Missing, Detail: l.Why, Why: lack.WithoutEBPF, Fix: l.Fix}
	case t.Mode == "":
		return Check{Name: name, Result: Unknown, Detail: "not tried: " + t.Failed}
	}
	return Check{Name: name, Tried: true, Result: OK, Detail: fmt.Sprintf("%d programs loaded, those of the scheduler "+
		"attached, in %v", len(t.Programs), round(t.Loading))}
}

func (t *Trial) memory() Check {
	c := Check{Name: "process memory", Tried: true, Result: OK, Detail: "the child's was read (process_vm_readv)"}
	switch t.Source {
	case "":
		c.Result, c.Tried, c.Detail = Unknown, false, "not tried: "+t.whyUntried()
	case pstate.SourceRefused:
		c.Result, c.Detail, c.Why = Missing, "the child's can't be read: "+t.Reason, "not even snapshots can be taken"
		c.Fix = lack.GivePrivileges()
	}
	return c
}

func (t *Trial) switches() Check {
	c := Check{Name: "switches", Tried: t.worked, Result: OK,
		Detail: fmt.Sprintf("%d changes of the child's Ps seen; the kernel switched its threads %d times", t.Changes,
			t.Account.Switches)}
	if t.Changes == 0 {
		c.Result, c.Why, c.Fix = Limited, "the tracepoint sched_switch tells of nothing, though the program is "+
			"attached: states are estimates by snapshots", report
	}
	return c
}

func (t *Trial) wakeUps() Check {
	c := Check{Name: "wake-ups", Tried: t.worked, Result: OK,
		Detail: fmt.Sprintf("%d hand-overs of a P to a thread measured", t.WakeUps)}
	if t.WakeUps == 0 {
		c.Result, c.Why, c.Fix = Limited, "the tracepoint sched_waking tells of nothing, though the program is "+
			"attached: there is no wake wait", report
	}
	return c
}

const report = "report this with the output of 'pscope doctor --json'"

func (t *Trial) stops() Check {
	c := Check{Name: "stops", Tried: t.worked, Result: OK}
	if l := t.lacks(lack.Stops); l != nil {
		c.Result, c.Detail, c.Why, c.Fix = Limited, l.Why, lack.WithoutStops, l.Fix
		return c
	}
	if _, why, ok := strings.Cut(t.Reason, lack.NoStops("")); ok {
		c.Result, c.Detail, c.Why, c.Fix = Limited, why, lack.WithoutStops, report
		return c
	}
	c.Detail = fmt.Sprintf("%d of %d seen, probes attached by %s", t.Stops, t.Account.Stops,
		strings.Join(t.StopsBy, " and "))
	if len(t.StopsBy) == 0 {
		c.Detail = fmt.Sprintf("%d of %d seen, no probe attached", t.Stops, t.Account.Stops)
	}
	if t.Stops < t.Account.Stops {
		c.Result, c.Why, c.Fix = Limited, "the probes don't tell of every stop", report
	}
	return c
}

func (t *Trial) samples() Check {
	c := Check{Name: "samples", Tried: t.sampled, Result: OK}
	if l := t.lacks(lack.Samples); l != nil {
		c.Tried, c.Result, c.Detail, c.Why, c.Fix = true, Limited, l.Why, lack.WithoutSamples, l.Fix
		return c
	}
	c.Detail = fmt.Sprintf("seen on %d of %d CPUs (%s)", len(t.Sampled), len(t.Sampled)+len(t.Unsampled)+len(t.Untried),
		cpuList(t.Sampled))
	if len(t.Unsampled) > 0 {
		c.Detail += "; none on " + cpuList(t.Unsampled)
		c.Result, c.Why, c.Fix = Limited, lack.WithoutSamples+", on the CPUs without", report
	}
	if len(t.Untried) > 0 {
		c.Detail += "; not tried on " + cpuList(t.Untried) + ", where doctor may not run or had no time to"
	}
	return c
}

// What may lie between the CPU time that the kernel counts and what is observed of Ps: threads without one (sysmon, and
// each between giving its P up and falling asleep).
const (
	cpuShareOff = 0.2
	cpuTimeOff  = 40 * time.Millisecond
)

func (t *Trial) onCPU() Check {
	c := Check{Name: "time on a CPU", Tried: t.worked, Result: OK,
		Detail: fmt.Sprintf("%v observed, %v by the kernel's count", round(t.CPU), round(t.counted))}
	off := math.Abs(float64(t.CPU - t.counted))
	if off > cpuShareOff*float64(t.counted) && off > float64(cpuTimeOff) {
		c.Result, c.Why, c.Fix = Limited, "the shares of time are not what they should be", "try again when the "+
			"machine has less to do; if it stays so, "+report
	}
	return c
}

func (t *Trial) migrations() Check {
	c := Check{Name: "migrations", Tried: t.Windows > 0, Result: OK,
		Detail: fmt.Sprintf("counted for %v in the child (with --migrations)", round(t.Windows))}
	if t.Windows > 0 {
		return c
	}
	c.Result, c.Detail, c.Why = Unknown, "not tried: "+t.NoWindows, lack.WithoutMigrations
	if _, why, ok := strings.Cut(t.Reason, lack.NoMigrations("")); ok {
		c.Tried, c.Result, c.Detail = true, Limited, why
		if l := t.lacks(lack.Stops); l != nil {
			c.Fix = l.Fix
		}
	}
	return c
}

func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

// cpuList writes numbers of CPUs as the kernel does: 0-3,8.
func cpuList(cpus []int) string {
	if len(cpus) == 0 {
		return "none"
	}
	var parts []string
	for i := 0; i < len(cpus); {
		j := i
		for j+1 < len(cpus) && cpus[j+1] == cpus[j]+1 {
			j++
		}
		part := strconv.Itoa(cpus[i])
		if j > i {
			part += "-" + strconv.Itoa(cpus[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	word := "CPU "
	if len(cpus) > 1 {
		word = "CPUs "
	}
	return word + strings.Join(parts, ",")
}
