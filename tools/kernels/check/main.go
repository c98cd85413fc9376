//go:build linux

// Command check runs the agent as one user beside programs that account for themselves, and prints what both say. It
// must be root.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/tools/kernels/account"
	"github.com/p-scope/p-scope/tools/kernels/plan"
)

// settings are the command line.
type settings struct {
	user          string
	agent         string
	table, search string
	seconds       float64
}

func main() {
	var s settings
	flag.StringVar(&s.user, "user", plan.Root, "whom the agent runs as")
	flag.StringVar(&s.agent, "agent", "/payload/pscope", "the agent's `program`")
	flag.StringVar(&s.table, "table", "/payload/workload", "a `program` of a known Go version")
	flag.StringVar(&s.search, "search", "/payload/workload-unknown", "a `program` of a Go version that no table has")
	flag.Float64Var(&s.seconds, "seconds", 20, "how long the first program is observed")
	flag.Parse()
	r := account.Result{User: s.user, Arch: runtime.GOARCH}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if err := s.check(context.Background(), &r); err != nil {
		r.Failed = err.Error()
	}
	text, err := json.Marshal(r)
	if err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
	fmt.Printf("\n%s%s\n", account.ResultMark, text)
}

// foreign is who owns the observed programs, unless the agent has no privilege to see other users'.
const foreign = 65534

func (s settings) check(ctx context.Context, r *account.Result) error {
	u, err := plan.ParseUser(s.user)
	if err != nil {
		return err
	}
	undo, err := setParanoid(s.user == plan.WithSysctl, &r.Paranoid)
	if err != nil {
		return err
	}
	defer undo()
	dir, err := os.MkdirTemp("", "pscope-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	owner := plan.User{ID: foreign}
	if s.user == plan.Unprivileged {
		owner = u
	}
	home := filepath.Join(dir, "home")
	for d, id := range map[string]uint32{dir: owner.ID, home: u.ID} {
		if err := ownedBy(d, id); err != nil {
			return err
		}
	}
	a, err := startAgent(s.agent, home, u, filepath.Join(dir, "workload"))
	if err != nil {
		return err
	}
	defer func() { r.Log = lastLines(a.end(), 40) }()
	if err := a.until(ctx, 3*time.Minute, "answer of the agent", func() (bool, error) {
		t, err := a.targets(ctx)
		if err != nil {
			return false, err
		}
		r.Mode = t.Agent.Mode
		for _, l := range t.Agent.Lacks {
			r.Lacks = append(r.Lacks, account.Lack{What: l.What, Why: l.Why, Fix: l.Fix})
		}
		return true, nil
	}); err != nil {
		return err
	}
	p, err := startProgram(s.table, dir, "workload", owner)
	if err != nil {
		return err
	}
	defer p.end()
	if err := a.observe(ctx, p, s.seconds, &r.Table); err != nil {
		return fmt.Errorf("the program of a known version: %w", err)
	}
	if n, err := a.query(ctx, fmt.Sprintf(`pscope_p_seconds_total{process_pid="%d"}`, p.pid())); err != nil {
		return err
	} else if n > 0 {
		r.History = true
	}
	p.end()
	q, err := startProgram(s.search, dir, "workload-unknown", owner)
	if err != nil {
		return err
	}
	defer q.end()
	if err := a.observe(ctx, q, s.seconds/4, &r.Search); err != nil {
		return fmt.Errorf("the program of an unknown version: %w", err)
	}
	askDoctor(ctx, s.agent, home, u, &r.Doctor)
	return nil
}

// setParanoid reads kernel.perf_event_paranoid, after setting it to what most kernels have if it is to. undo sets it
// back.
func setParanoid(set bool, is *int) (undo func(), err error) {
	const file = "/proc/sys/kernel/perf_event_paranoid"
	was, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	undo = func() {}
	now := was
	if set {
		now = []byte("2")
		if err := os.WriteFile(file, now, 0o644); err != nil {
			return nil, err
		}
		undo = func() { _ = os.WriteFile(file, was, 0o644) }
	}
	_, err = fmt.Sscan(string(now), is)
	return undo, err
}
