//go:build linux

package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Process is one running Go process and what an agent would make of it. Its program is read and its memory looked at;
// no probe is put into it.
type Process struct {
	PID       int           `json:"pid"`
	Process   string        `json:"process"` // base name of the executable
	Exe       string        `json:"exe"`
	Runtime   string        `json:"runtime,omitempty"` // the library that the runtime is in; empty: the program itself
	GoVersion string        `json:"go_version,omitempty"`
	Layout    pstate.Layout `json:"layout,omitempty"`
	// Observable is how an agent started the same way would observe it: ebpf, snapshot, or empty when it can't.
	Observable string `json:"observable,omitempty"`
	Reason     string `json:"reason,omitempty"` // as pscope_target_info has it
	// Migrations says why goroutine migrations could not be counted in it, if an agent were asked to; empty: they
	// could.
	Migrations string `json:"no_migrations,omitempty"`
	Fix        string `json:"fix,omitempty"`
}

// goProcesses looks at every process but this one, by the agent's own code. hidden counts those whose executable can't
// be read. room is what an agent with the default --max-ps and --max-threads has.
func goProcesses(ctx context.Context, as collector.AgentInfo) (ps []Process, lacks []collector.Lack, hidden int,
	room collector.Room) {
	x, err := examineAside(ctx, as)
	if err != nil {
		x.Lacks = append(x.Lacks, collector.Lack{What: "the processes of this host", Why: err.Error(), Fix: tryAgain})
	}
	found, lacks, hidden, room := x.Found, x.Lacks, x.Hidden, x.Room
	for i := range found {
		f := &found[i]
		p := Process{
			PID: int(f.PID), Process: f.Process, Exe: f.Exe, Runtime: f.Runtime, GoVersion: f.GoVersion,
			Layout: f.Layout,
			Reason: f.Reason, Migrations: f.NoMigrations, Fix: f.Fix,
		}
		if f.Source != pstate.SourceRefused {
			p.Observable = string(f.Source)
			if as.Mode == "" {
				p.Reason = "by snapshots at least: whether by eBPF could not be tried"
			}
		}
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b Process) int {
		return cmp.Or(cmp.Compare(a.Process, b.Process), cmp.Compare(a.PID, b.PID), cmp.Compare(a.Runtime, b.Runtime))
	})
	return ps, lacks, hidden, room
}

// roomCheck says whether an agent has room for all Go processes here.
func roomCheck(r collector.Room) Check {
	c := Check{Name: "room", Result: OK, Tried: true, Detail: fmt.Sprintf("for %d Ps and %d threads with the default "+
		"--max-ps and --max-threads; the Go processes here take that of %d and %d", r.Ps, r.Threads, r.PsUsed,
		r.ThreadsUsed)}
	if r.Refused > 0 {
		c.Result = Limited
		c.Why = fmt.Sprintf("there is none for %d more; where it is short, users share it fairly", r.Refused)
		c.Fix = "start the agent with a larger --max-ps and --max-threads, or with --exclude"
	}
	return c
}
