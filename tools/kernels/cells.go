package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/tools/kernels/account"
	"github.com/p-scope/p-scope/tools/kernels/plan"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// cell is one kernel with one user.
type cell struct {
	Line    string  `json:"line"` // "6.1", or "this host"
	Arch    string  `json:"arch"`
	Package string  `json:"package,omitempty"` // the kernel's, with its version
	Instead string  `json:"instead,omitempty"` // why it is another than the pinned one
	User    string  `json:"user"`
	Booted  float64 `json:"booted_seconds,omitempty"`
	// so often the guest ended by the emulator's fault before it came to this
	Again   int             `json:"booted_again,omitempty"`
	Before  []string        `json:"before,omitempty"` // what the tries before this one gave
	Result  *account.Result `json:"result,omitempty"`
	Checks  []verdict       `json:"checks"`
	console string
}

// broken is a cell of which nothing was seen.
func (c *cell) broken(err error) {
	c.Checks = []verdict{{Check: "the check came to its end", Wrong: []string{err.Error()}}}
}

func (c *cell) name() string { return fmt.Sprintf("%s %s %s", c.Line, c.Arch, c.User) }

func (c *cell) good() bool {
	return !slices.ContainsFunc(c.Checks, func(v verdict) bool { return !v.good() })
}

// thisHost is the line of the running kernel.
const thisHost = "this host"

// programs are those that a guest of an architecture needs.
type programs struct{ init, check, agent, table, search string }

func buildPrograms(ctx context.Context, dir, arch string) (p programs, err error) {
	dir = filepath.Join(dir, arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return p, err
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	p = programs{at("init"), at("check"), at("pscope"), at("workload"), at("workload-unknown")}
	for _, b := range []struct{ to, pkg, flags string }{
		{p.init, "./tools/kernels/init", "-s -w"}, {p.check, "./tools/kernels/check", "-s -w"},
		{p.agent, "./pkg/cmd/pscope", "-w"}, {p.table, "./tools/kernels/workload", "-s -w"},
	} {
		if err := build(ctx, arch, b.to, b.pkg, "-ldflags="+b.flags); err != nil {
			return p, err
		}
	}
	return p, unknownVersion(ctx, p.table, p.search)
}

// unknownVersion copies a Go program under a version that no table has.
func unknownVersion(ctx context.Context, from, to string) error {
	out, err := output(ctx, "go", "version", from)
	if err != nil {
		return err
	}
	f := strings.Fields(out)
	version := []byte(f[len(f)-1])
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	const known = len("go1.26")
	if len(version) < known || !bytes.Contains(data, version) {
		return fmt.Errorf("%s does not name its version %q", from, version)
	}
	newer := append([]byte("go1.99"), version[known:]...)
	return os.WriteFile(to, bytes.ReplaceAll(data, version, newer), 0o755)
}

// tableOf runs every cell of some kernels: one boot a kernel, one run of the checker a user.
type tableOf struct {
	archive *archive
	dir     string   // for what is built
	users   []string // empty: those that differ on the kernel
	seconds float64
	limit   time.Duration
	built   map[string]programs
	say     func(format string, args ...any)
}

// programsFor builds once an architecture.
func (t *tableOf) programsFor(ctx context.Context, arch string) (programs, error) {
	if p, ok := t.built[arch]; ok {
		return p, nil
	}
	t.say("building for %s", arch)
	p, err := buildPrograms(ctx, t.dir, arch)
	if err == nil {
		t.built[arch] = p
	}
	return p, err
}

// tried runs the cells of one pinned kernel, and those that are not as promised again, so often at most.
func (t *tableOf) tried(ctx context.Context, p pin, tries int) []cell {
	cells := t.pinned(ctx, p)
	all := t.users
	defer func() { t.users = all }()
	for n := 2; n <= tries && ctx.Err() == nil; n++ {
		at := map[string]int{}
		t.users = nil
		for i := range cells {
			if !cells[i].good() {
				at[cells[i].User] = i
				t.users = append(t.users, cells[i].User)
				t.say("%s: %s; trying again", cells[i].name(), cells[i].outcome())
			}
		}
		if len(t.users) == 0 {
			break
		}
		for _, c := range t.pinned(ctx, p) {
			old := &cells[at[c.User]]
			c.Before = append(old.Before, old.summary())
			*old = c
		}
	}
	return cells
}

// pinned runs the cells of one pinned kernel. Whatever fails is told in every cell that it concerns.
func (t *tableOf) pinned(ctx context.Context, p pin) []cell {
	users := t.users
	if len(users) == 0 {
		users = usersOf(p.Line, true)
	}
	cells := make([]cell, len(users))
	var open []*cell
	for i, user := range users {
		cells[i] = cell{Line: p.Line, Arch: p.Arch, Package: p.Package + " " + p.Version, User: user}
		open = append(open, &cells[i])
	}
	for boots := 1; len(open) > 0; boots++ {
		err := t.boot(ctx, p, open)
		again := errors.Is(err, errPatching) && boots < mostBoots
		open = slices.DeleteFunc(open, func(c *cell) bool {
			if c.Result == nil && again {
				c.Again++
				return false
			}
			c.close(err)
			return true
		})
		if again {
			t.say("%s: %v; booting again", p.Line, errPatching)
		}
	}
	return cells
}

// mostBoots is how often a guest is booted that the emulator's fault ends.
const mostBoots = 4

// close judges what was seen, or says why nothing was.
func (c *cell) close(err error) {
	switch {
	case c.Result != nil:
		c.Checks = judge(c.Result)
	case c.Checks != nil:
	case err != nil:
		c.broken(err)
	default:
		c.broken(errors.New("the guest said nothing of it; " + c.console))
	}
}

func (t *tableOf) boot(ctx context.Context, p pin, cells []*cell) error {
	if t.archive == nil {
		a, err := openArchive(ctx, t.dir)
		if err != nil {
			return err
		}
		t.archive = a
	}
	pkg, err := t.archive.fetch(ctx, p)
	if err != nil {
		return err
	}
	kernel, err := kernelOf(ctx, pkg.Path)
	if err != nil {
		return err
	}
	progs, err := t.programsFor(ctx, p.Arch)
	if err != nil {
		return err
	}
	var files []inGuest
	for _, f := range []string{progs.check, progs.agent, progs.table, progs.search} {
		files = append(files, inGuest{f, "/payload/" + filepath.Base(f)})
	}
	var todo plan.Plan
	for i := range cells {
		cells[i].Package, cells[i].Instead = pkg.Package+" "+pkg.Version, pkg.Instead
		todo.Jobs = append(todo.Jobs, plan.Job{
			Name: fmt.Sprint(i), User: plan.Root, Seconds: t.limit.Seconds() / float64(len(cells)+1),
			Args: []string{"/payload/check", "-user", cells[i].User, "-seconds", fmt.Sprint(t.seconds)},
		})
	}
	initramfs := filepath.Join(t.dir, p.Arch, "initramfs")
	if err := writeInitramfs(initramfs, progs.init, todo, files); err != nil {
		return err
	}
	g := guest{arch: p.Arch, kernel: kernel, initramfs: initramfs, cpus: 2, memory: 2048, limit: t.limit}
	t.say("booting %s %s", pkg.Package, pkg.Version)
	out, err := g.run(ctx, func(job, text string) {
		var i int
		if _, bad := fmt.Sscan(job, &i); bad == nil && i < len(cells) {
			cells[i].take(text)
		}
	})
	for i := range cells {
		cells[i].Booted = out.booted.Seconds()
		cells[i].console = out.lastWords()
		if why, ok := out.failed[fmt.Sprint(i)]; ok && cells[i].Result == nil {
			cells[i].broken(errors.New(why))
		}
	}
	if err != nil {
		return fmt.Errorf("%w; %s", err, out.lastWords())
	}
	if len(out.codes)+len(out.failed) < len(cells) {
		return fmt.Errorf("the guest ended before it was done: %w; %s", out.cause(), out.lastWords())
	}
	return nil
}

// take reads the result among the lines of the checker.
func (c *cell) take(line string) {
	_, text, ok := strings.Cut(line, account.ResultMark)
	if !ok {
		return
	}
	var r account.Result
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		c.broken(fmt.Errorf("the checker's answer is no JSON: %w", err))
		return
	}
	c.Result = &r
}

// host runs the cells of the running kernel, without a guest.
func (t *tableOf) host(ctx context.Context) []cell {
	var u unix.Utsname
	release := ""
	if unix.Uname(&u) == nil {
		release = unix.ByteSliceToString(u.Release[:])
	}
	users := t.users
	if len(users) == 0 {
		users = usersOf(release, false)
	}
	cells := make([]cell, len(users))
	progs, err := t.programsFor(ctx, runtime.GOARCH)
	for i, user := range users {
		c := &cells[i]
		*c = cell{Line: thisHost, Arch: runtime.GOARCH, Package: release, User: user}
		if err != nil {
			c.broken(err)
			continue
		}
		t.say("checking this host as %s", user)
		c.onHost(ctx, progs, t.seconds)
	}
	return cells
}

func (c *cell) onHost(ctx context.Context, p programs, seconds float64) {
	if os.Geteuid() != 0 {
		c.broken(errors.New("the checker starts the agent as several users, so it must be root"))
		return
	}
	// Where every user may reach them.
	dir, err := os.MkdirTemp("", "pscope-kernels-")
	if err != nil {
		c.broken(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		c.broken(err)
		return
	}
	agent := filepath.Join(dir, "pscope")
	data, err := os.ReadFile(p.agent)
	if err == nil {
		err = os.WriteFile(agent, data, 0o755)
	}
	if err != nil {
		c.broken(err)
		return
	}
	cmd := exec.CommandContext(ctx, p.check, "-user", c.User, "-seconds", fmt.Sprint(seconds), "-agent", agent,
		"-table", p.table, "-search", p.search)
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		c.take(strings.TrimRight(line, "\n"))
	}
	if c.Result == nil {
		c.broken(fmt.Errorf("the checker ended without an answer (%v): %s", err, out))
		return
	}
	c.Checks = judge(c.Result)
}
