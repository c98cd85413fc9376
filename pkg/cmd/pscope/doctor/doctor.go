//go:build linux

// Package doctor says what this kernel, these privileges and each running Go process allow, with the fix for each lack.
// It needs no privileges and no agent, and changes nothing.
package doctor

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"connectrpc.com/connect"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Result says how a check went.
type Result string

// The results.
const (
	OK      Result = "ok"
	Limited Result = "limited" // something is missing without which less is seen
	Missing Result = "missing" // something is missing without which eBPF is not possible at all
	Unknown Result = "unknown" // these privileges don't let us find out
	Info    Result = "info"
)

// Check is one thing looked at.
type Check struct {
	Name   string `json:"name"`
	Result Result `json:"result"`
	Detail string `json:"detail"`        // what was found
	Why    string `json:"why,omitempty"` // what is lost by it
	Fix    string `json:"fix,omitempty"` // what to do
}

// Verdict sums up a report; each goes with an exit code.
type Verdict string

// The verdicts.
const (
	Fine    Verdict = "fine"    // 0: eBPF works and every Go process found can be observed
	Partly  Verdict = "limited" // 1
	Nothing Verdict = "nothing" // 2: neither eBPF nor a snapshot of any process is possible
)

// Report is the whole answer; its JSON form is what --json prints.
type Report struct {
	Verdict   Verdict   `json:"verdict"`
	Kernel    string    `json:"kernel"`
	Arch      string    `json:"arch"`
	UID       int       `json:"uid"`
	Mode      string    `json:"mode"` // how an agent started the same way would work: ebpf, snapshot or none
	Checks    []Check   `json:"checks"`
	Processes []Process `json:"processes"`
	// Hidden counts processes whose executable these privileges don't let us read, so that it is not known whether they are Go.
	Hidden int    `json:"hidden_processes"`
	Agent  *Agent `json:"agent,omitempty"`
}

// Agent is what a running agent says of itself.
type Agent struct {
	Address string  `json:"address"`
	Version string  `json:"version,omitempty"`
	Mode    string  `json:"mode,omitempty"`
	Targets int     `json:"targets"`
	Lacks   []Check `json:"lacks,omitempty"`
	// Losses is what is missing from its picture since it first saw the processes it observes now.
	Losses []client.Loss `json:"losses,omitempty"`
	Error  string        `json:"error,omitempty"`
}

// Run is the subcommand "doctor".
func Run(ctx context.Context, args []string) (int, error) {
	fs := flag.NewFlagSet("pscope doctor", flag.ContinueOnError)
	asJSON := fs.Bool("json", false, "print the report as JSON")
	var agent client.Options
	agent.Register(fs)
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), "pscope doctor says what this kernel, these privileges and each running Go process allow.\n\nExit code: 0 all fine, 1 limited, 2 nothing works.\n\nFlags:")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	if fs.NArg() > 0 {
		return 2, fmt.Errorf("unexpected argument %q; all settings are flags, see --help", fs.Arg(0))
	}
	r := examine(ctx, &agent)
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return 2, err
		}
	} else {
		r.print(os.Stdout)
	}
	return r.exitCode(), nil
}

func examine(ctx context.Context, agent *client.Options) *Report {
	h := readHost()
	r := &Report{Kernel: h.release, Arch: h.arch, UID: os.Getuid(), Checks: h.checks()}
	r.Mode = "ebpf"
	for _, c := range r.Checks {
		if c.Result == Missing || c.Result == Unknown {
			r.Mode = "snapshot"
		}
	}
	if r.Mode == "snapshot" && !h.canRead() {
		r.Mode = "none"
	}
	r.Processes, r.Hidden = goProcesses(r.Mode == "ebpf")
	r.judge()
	r.Agent = askAgent(ctx, agent)
	return r
}

// judge sets the verdict.
func (r *Report) judge() {
	r.Verdict = Fine
	for _, c := range r.Checks {
		if c.Result != OK && c.Result != Info {
			r.Verdict = Partly
		}
	}
	for _, p := range r.Processes {
		if p.Observable == "" {
			r.Verdict = Partly
		}
	}
	if r.Mode == "none" {
		r.Verdict = Nothing
	}
}

func (r *Report) exitCode() int {
	switch r.Verdict {
	case Fine:
		return 0
	case Partly:
		return 1
	}
	return 2
}

// askAgent gives what a running agent says; nil where none listens on the default socket and none was asked for.
func askAgent(ctx context.Context, o *client.Options) *Agent {
	if _, err := os.Stat(o.Socket); err != nil && o.URL == "" && o.Socket == client.DefaultSocket {
		return nil
	}
	a := &Agent{Address: o.Target()}
	c, err := o.Dial()
	if err == nil {
		var resp *connect.Response[pscopev1.ListTargetsResponse]
		if resp, err = c.ListTargets(ctx, connect.NewRequest(&pscopev1.ListTargetsRequest{})); err == nil {
			info := resp.Msg.GetAgent()
			a.Version, a.Mode, a.Targets = info.GetVersion(), info.GetMode(), len(resp.Msg.GetTargets())
			for _, l := range info.GetLacks() {
				a.Lacks = append(a.Lacks, Check{Name: l.GetWhat(), Result: Limited, Detail: l.GetWhy(), Fix: l.GetFix()})
			}
			for _, t := range resp.Msg.GetTargets() {
				if t.GetSource() != string(pstate.SourceRefused) && t.GetReason() != "" {
					a.Lacks = append(a.Lacks, Check{Name: fmt.Sprintf("%s (pid %d)", t.GetProcess(), t.GetKey().GetPid()), Result: Limited, Detail: t.GetReason()})
				}
			}
			a.Losses, err = o.Losses(ctx)
			if err == nil {
				return a
			}
		}
		err = o.Explain(err)
	}
	a.Error = err.Error()
	return a
}

var marks = map[Result]string{OK: "ok", Limited: "less", Missing: "MISSING", Unknown: "unknown", Info: "note"}

func (r *Report) print(w io.Writer) {
	fmt.Fprintf(w, "P-Scope on Linux %s, %s\n\n", r.Kernel, r.Arch)
	last := ""
	for _, c := range r.Checks {
		// Several lacks often have one remedy; it is said once.
		if c.Fix != "" && c.Fix == last {
			c.Fix = "the same"
		} else if c.Fix != "" {
			last = c.Fix
		}
		c.print(w)
	}
	fmt.Fprintln(w, "\nGo processes")
	if len(r.Processes) == 0 {
		fmt.Fprintln(w, "  none found")
	}
	for _, p := range r.Processes {
		how := p.Observable
		if how == "" {
			how = "refused"
		}
		fmt.Fprintf(w, "  %-8s pid %-7d %-20s %-10s", how, p.PID, p.Process, p.GoVersion)
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
	if r.Hidden > 0 {
		advice := "run this as root to see more"
		if r.UID == 0 {
			advice = "the kernel protects them even from root"
		}
		fmt.Fprintf(w, "  %d processes can't be looked at, so it is not known whether they are Go; %s\n", r.Hidden, advice)
	}
	if a := r.Agent; a != nil {
		fmt.Fprintln(w, "\nAgent")
		if a.Error != "" {
			fmt.Fprintf(w, "  %s\n", a.Error)
		} else {
			fmt.Fprintf(w, "  %s answers: version %s, mode %s, %d processes\n", a.Address, a.Version, a.Mode, a.Targets)
		}
		for _, l := range a.Lacks {
			l.print(w)
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
	fmt.Fprintln(w)
	switch r.Verdict {
	case Fine:
		fmt.Fprintln(w, "All fine: every Go process here can be observed with eBPF.")
	case Partly:
		if r.Mode == "ebpf" {
			fmt.Fprintln(w, "Limited: eBPF works, but not for everything; see the lines that are not ok.")
		} else {
			fmt.Fprintln(w, "Limited: without eBPF an agent takes snapshots only (10 a second): shares are estimates, short states are missed, stops and D are seen by chance.")
		}
	case Nothing:
		fmt.Fprintln(w, "Nothing works here: neither eBPF nor reading the memory of another process. Run the agent as root, or see the fixes above.")
	}
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
