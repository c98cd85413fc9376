//go:build linux

// Command pscope is the agent and its tools: it watches what every P of every Go process on this host is doing, from
// outside the processes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/p-scope/p-scope/pkg/cmd/pscope/agent"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/demo"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/doctor"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/top"
)

// version is set by the build (-ldflags "-X main.version=…").
var version = "dev"

// A command is one subcommand. run gets the arguments after its name and a context that ends with SIGINT or SIGTERM;
// the returned number is the exit code, and a non-nil error is printed.
// Without a short text it is for P-Scope itself, and not listed.
type command struct {
	name, short string
	run         func(ctx context.Context, args []string) (int, error)
}

func commands() []command {
	return []command{
		{"agent", "observe the Go processes of this host and serve what is seen", agent.Run(version)},
		{"demo", "a Go workload with a known script of busy, idle, syscall, GC, imbalance and D phases", demo.Run},
		{"doctor", "what this kernel, these privileges and each running Go process allow, and how to get more",
			doctor.Run(version)},
		{doctor.ChildCommand, "", doctor.RunChild},
		{doctor.ExamineCommand, "", doctor.RunExamine},
		{"history", "keeps the agent's history; the agent starts it for itself", agent.History},
		{"top", "live table of all Ps in the terminal", top.Run},
		{"version", "print the version", func(context.Context, []string) (int, error) {
			fmt.Println("pscope", version)
			return 0, nil
		}},
	}
}

func usage() string {
	var b strings.Builder
	b.WriteString("pscope: what every P of every Go process on this host is doing, seen from outside the " +
		"process\n\nUsage:\n  pscope COMMAND [flags]\n\nCommands:\n")
	for _, c := range commands() {
		if c.short == "" {
			continue
		}
		fmt.Fprintf(&b, "  %-9s %s\n", c.name, c.short)
	}
	b.WriteString("\n'pscope COMMAND --help' lists the flags of a command.\n")
	return b.String()
}

func main() { os.Exit(run(os.Args)) }

func run(argv []string) int {
	args := argv[1:]
	// Under the name pscope-demo (a link to this program) the demo is a process of its own name in lists and boards.
	if filepath.Base(argv[0]) == "pscope-demo" && (len(args) == 0 || strings.HasPrefix(args[0], "-")) {
		args = append([]string{"demo"}, args...)
	}
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage())
		return 2
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		fmt.Print(usage())
		return 0
	case "-version", "--version":
		args[0] = "version"
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		// A second signal ends the program at once, whatever it is doing.
		context.AfterFunc(ctx, stop)
		code, err := c.run(ctx, args[1:])
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "pscope %s: %v\n", c.name, err)
			if code == 0 {
				code = 1
			}
		}
		return code
	}
	fmt.Fprintf(os.Stderr, "pscope: there is no command %q; 'pscope help' lists the commands\n", args[0])
	return 2
}
