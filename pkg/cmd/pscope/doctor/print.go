//go:build linux

package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/pstate"
)

var marks = map[Result]string{OK: "ok", Limited: "less", Missing: "MISSING", Unknown: "untried", Info: "note"}

func (r *Report) print(w io.Writer) {
	fmt.Fprintf(w, "P-Scope on Linux %s, %s\n\n", r.Kernel, r.Arch)
	fmt.Fprintln(w, "What an agent would do, done with a child process")
	last := ""
	for i, c := range r.Checks {
		if i == r.tried() {
			fmt.Fprintln(w, "\nWhat this host says of itself")
		}
		// Several lacks often have one remedy; it is said once.
		if c.Fix != "" && c.Fix == last {
			c.Fix = "the same"
		} else if c.Fix != "" {
			last = c.Fix
		}
		c.print(w)
	}
	r.printProcesses(w)
	if r.Agent != nil {
		r.Agent.print(w)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, r.sentence())
}

func (r *Report) printProcesses(w io.Writer) {
	fmt.Fprintln(w, "\nGo processes: what an agent would make of each (its memory was looked at, no probe was put "+
		"into it)")
	if len(r.Processes) == 0 {
		fmt.Fprintln(w, "  none found")
	}
	for _, p := range r.Processes {
		how := p.Observable
		if how == "" {
			how = "refused"
		}
		fmt.Fprintf(w, "  %-8s pid %-7d %-20s %-10s", how, p.PID, p.Process, p.GoVersion)
		if p.Runtime != "" {
			fmt.Fprintf(w, " in %s", p.Runtime)
		}
		if p.Layout != pstate.LayoutNone {
			fmt.Fprintf(w, " layout: %s", p.Layout)
		}
		fmt.Fprintln(w)
		if p.Reason != "" {
			fmt.Fprintf(w, "           %s\n", p.Reason)
		}
		if p.Fix != "" {
			fmt.Fprintf(w, "           fix: %s\n", p.Fix)
		}
		if p.Migrations != "" {
			fmt.Fprintf(w, "           with --migrations nothing would be counted: %s\n", p.Migrations)
		}
	}
	for _, l := range r.hidden {
		(&Check{Name: l.What, Result: Info, Detail: l.Why, Fix: l.Fix}).print(w)
	}
}

func (a *Agent) print(w io.Writer) {
	fmt.Fprintln(w, "\nAgent")
	if a.Error != "" {
		fmt.Fprintf(w, "  %s\n", a.Error)
	} else {
		fmt.Fprintf(w, "  %s answers: version %s, mode %s, %d processes\n", a.Address, a.Version, a.Mode, a.Targets)
	}
	for _, l := range a.Lacks {
		l.print(w)
	}
	for _, m := range a.GivenUp {
		c := Check{Name: m.Name, Result: OK, Detail: m.Part + ": " + m.Detail}
		if !m.Holds {
			c.Result = Info
		}
		c.print(w)
	}
	if a.Error == "" && len(a.GivenUp) == 0 {
		fmt.Fprintln(w, "  its processes keep all privileges they were started with (--keep-privileges, or a version "+
			"before)")
	}
	for _, l := range a.Losses {
		whose := "the agent itself"
		if l.PID != "" {
			whose = fmt.Sprintf("%s, pid %s", l.Process, l.PID)
		}
		fmt.Fprintf(w, "  %-8s %-22s %.0f (%s)\n", "lost", l.Reason, l.Count, whose)
	}
	if len(a.Losses) > 0 {
		fmt.Fprintln(w, "           what each reason means: docs/runbooks/pscope-lost-events.md")
	} else if a.Error == "" {
		fmt.Fprintln(w, "  it has lost nothing of the processes it observes")
	}
}

// sentence is the verdict for people.
func (r *Report) sentence() string {
	switch {
	case r.Verdict == Fine:
		return "All fine: every Go process found here can be observed with eBPF."
	case r.Verdict == Nothing:
		return "Nothing works here: neither eBPF nor reading the memory of another process. Run the agent as " +
			"root, or " +
			"see the fixes above."
	case r.Mode == string(collector.ModeEBPF):
		return "Limited: eBPF works, but not for everything; see the lines that are not ok."
	}
	if r.Mode == unknownMode {
		return "Not known: what an agent would do here could not be tried; the first line says why."
	}
	return "Limited: " + lack.WithoutEBPF + "."
}

// tried is the number of checks that tell of the trial; those of the host follow them.
func (r *Report) tried() int {
	for i, c := range r.Checks {
		if c.Name == "kernel" {
			return i
		}
	}
	return len(r.Checks)
}

func (c *Check) print(w io.Writer) {
	fmt.Fprintf(w, "  %-8s %-22s %s\n", marks[c.Result], c.Name, c.Detail)
	if c.Why != "" {
		fmt.Fprintf(w, "           %s\n", c.Why)
	}
	if c.Fix != "" {
		fmt.Fprintf(w, "           fix: %s\n", strings.ReplaceAll(c.Fix, "\n", "\n                "))
	}
}
