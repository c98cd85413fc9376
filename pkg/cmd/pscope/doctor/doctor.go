//go:build linux

// Package doctor says what this kernel, these privileges and each running Go process allow, with the fix for each lack.
//
// It does what an agent would do, by the agent's own code, with a child process that it starts itself: what it calls ok
// it has seen to work. It needs no privileges and no agent, and leaves nothing behind.
package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"connectrpc.com/connect"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/internal/confine"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Result says how a check went.
type Result string

// The results.
const (
	OK      Result = "ok"
	Limited Result = "limited" // something is missing without which less is seen
	Missing Result = "missing" // something is missing without which eBPF is not possible at all
	Unknown Result = "unknown" // it was not tried; the detail says why
	Info    Result = "info"
)

// Check is one thing looked at.
type Check struct {
	Name   string `json:"name"`
	Result Result `json:"result"`
	Tried  bool   `json:"tried"`         // it was done, not only looked up
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
	Verdict Verdict `json:"verdict"`
	Kernel  string  `json:"kernel"`
	Arch    string  `json:"arch"`
	UID     int     `json:"uid"`
	Mode    string  `json:"mode"` // how an agent started the same way would work: ebpf, snapshot or none
	Checks  []Check `json:"checks"`
	// Trial is what was done with the child process, and Lacks what an agent lacks here, in its own words.
	Trial     *Trial           `json:"trial,omitempty"`
	Lacks     []collector.Lack `json:"lacks"`
	Processes []Process        `json:"processes"`
	// Hidden counts processes whose executable these privileges don't let us read, so that it is not known whether they
	// are Go.
	Hidden int              `json:"hidden_processes"`
	Agent  *Agent           `json:"agent,omitempty"`
	hidden []collector.Lack // what that means
}

// Agent is what a running agent says of itself.
type Agent struct {
	Address string  `json:"address"`
	Version string  `json:"version,omitempty"`
	Mode    string  `json:"mode,omitempty"`
	Targets int     `json:"targets"`
	Lacks   []Check `json:"lacks,omitempty"`
	// GivenUp is what its processes gave up after their start.
	GivenUp []confine.Measure `json:"given_up,omitempty"`
	// Losses is what is missing from its picture since it first saw the processes it observes now.
	Losses []client.Loss `json:"losses,omitempty"`
	Error  string        `json:"error,omitempty"`

	refused map[processKey]Check
}

// processKey is a runtime in a process.
type processKey struct {
	pid     int
	runtime string
}

// compare adds what the agent refuses although it could be observed, for lack of room for example.
func (a *Agent) compare(ps []Process) {
	if a == nil {
		return
	}
	for _, p := range ps {
		if c, ok := a.refused[processKey{p.PID, p.Runtime}]; ok && p.Observable != "" {
			a.Lacks = append(a.Lacks, c)
		}
	}
}

// Run gives the subcommand "doctor" of the given version.
func Run(version string) func(ctx context.Context, args []string) (int, error) {
	return func(ctx context.Context, args []string) (int, error) { return run(ctx, version, args) }
}

func run(ctx context.Context, version string, args []string) (int, error) {
	fs := flag.NewFlagSet("pscope doctor", flag.ContinueOnError)
	asJSON := fs.Bool("json", false, "print the report as JSON")
	patience := fs.Duration("patience", trialMost, "how long trying things on a child process may take, on a busy "+
		"machine")
	b := bundle{version: version}
	fs.StringVar(&b.path, "bundle", "", "write an archive for a bug report to this file, which must not be there yet: "+
		"the report, version, kernel, "+
		"the agent's metrics, targets and last log lines, and its settings; no tokens, arguments or environments")
	fs.BoolVar(&b.redact, "redact", false, "in the archive, replace the names of processes, hosts, containers and "+
		"paths by numbers")
	fs.StringVar(&b.config, "config", defaultConfig, "the agent's configuration file, for the archive")
	var agent client.Options
	agent.Register(fs)
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), "pscope doctor says what this kernel, these privileges and each running Go process "+
			"allow, by doing with a child process what an agent would do.\n\nExit code: 0 all fine, 1 limited, 2 "+
			"nothing "+
			"works. With --bundle: 0 the archive was written, 2 it was not.\n\nFlags:")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	switch {
	case fs.NArg() > 0:
		return 2, fmt.Errorf("unexpected argument %q; all settings are flags, see --help", fs.Arg(0))
	case b.path == "" && b.redact:
		return 2, errors.New("--redact is about the archive of --bundle; name that, too")
	case b.path != "" && *asJSON:
		return 2, errors.New("--bundle and --json don't go together; the archive has the report as JSON")
	}
	if b.path != "" {
		// Before the work is done.
		if err := b.free(); err != nil {
			return 2, err
		}
	}
	r := examine(ctx, &agent, *patience, os.Stderr)
	if ctx.Err() != nil {
		return 2, errors.New("interrupted; nothing is left behind")
	}
	if b.path != "" {
		if err := b.make(ctx, r, &agent, os.Stdout); err != nil {
			return 2, err
		}
		return 0, nil
	}
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

// processesMost bounds the look at all processes.
const processesMost = 30 * time.Second

func examine(ctx context.Context, agent *client.Options, patience time.Duration, progress io.Writer) *Report {
	h := readHost("/")
	r := &Report{Kernel: h.release, Arch: h.arch, UID: os.Getuid(), Trial: tryOut(ctx, patience, progress)}
	t := r.Trial
	var room collector.Room
	r.Processes, r.hidden, r.Hidden, room = goProcesses(ctx, t.info)
	r.Checks = t.findings()
	if t.Source == pstate.SourceEBPF {
		r.Checks = append(r.Checks, roomCheck(room))
	}
	r.Checks = append(r.Checks, h.checks(t.Source == pstate.SourceEBPF)...)
	r.Lacks = slices.Concat([]collector.Lack{}, t.Lacks, r.hidden, h.lacks())
	r.decide(h.onlyChildren())
	r.judge()
	r.Agent = askAgent(ctx, agent)
	r.Agent.compare(r.Processes)
	return r
}

// decide sets the mode in which an agent would work here. onlyChildren is whether memory can be read of one's own
// children alone, which an agent has none of.
func (r *Report) decide(onlyChildren bool) {
	r.Mode = r.Trial.Mode
	if r.Mode == "" {
		r.Mode = unknownMode
		return
	}
	if r.Mode == string(collector.ModeEBPF) && r.Trial.Source != pstate.SourceRefused {
		return
	}
	readable := r.Trial.Source == pstate.SourceSnapshot && !onlyChildren
	for _, p := range r.Processes {
		readable = readable || p.Observable != ""
	}
	r.Mode = string(collector.ModeSnapshot)
	if !readable {
		r.Mode = "none"
	}
}

// unknownMode is that of an agent of which nothing could be tried.
const unknownMode = "unknown"

// judge sets the verdict.
func (r *Report) judge() {
	r.Verdict = Fine
	for _, c := range r.Checks {
		if c.Result != OK && c.Result != Info {
			r.Verdict = Partly
		}
	}
	for _, p := range r.Processes {
		if p.Observable == "" || p.Reason != "" {
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
	a := &Agent{Address: o.Target(), refused: map[processKey]Check{}}
	c, err := o.Dial()
	if err == nil {
		var resp *connect.Response[pscopev1.ListTargetsResponse]
		if resp, err = c.ListTargets(ctx, connect.NewRequest(&pscopev1.ListTargetsRequest{})); err == nil {
			info := resp.Msg.GetAgent()
			a.Version, a.Mode, a.Targets = info.GetVersion(), info.GetMode(), len(resp.Msg.GetTargets())
			for _, l := range info.GetLacks() {
				a.Lacks = append(a.Lacks, Check{Name: l.GetWhat(), Result: Limited, Detail: l.GetWhy(),
					Fix: l.GetFix()})
			}
			for _, t := range resp.Msg.GetTargets() {
				if t.GetReason() == "" {
					continue
				}
				key := processKey{int(t.GetKey().GetPid()), t.GetKey().GetRuntime()}
				c := Check{Name: fmt.Sprintf("%s (pid %d)", t.GetProcess(), key.pid), Result: Limited,
					Detail: t.GetReason()}
				if t.GetSource() == string(pstate.SourceRefused) {
					a.refused[key] = c
				} else {
					a.Lacks = append(a.Lacks, c)
				}
			}
			for _, m := range info.GetGivenUp() {
				a.GivenUp = append(a.GivenUp, confine.Measure{Part: m.GetPart(), Name: m.GetName(), Holds: m.GetHolds(),
					Detail: m.GetDetail()})
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
