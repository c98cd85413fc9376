// Command kernels boots Linux kernels of Debian's archive in qemu, without KVM, and runs programs there.
//
//	go run ./tools/kernels -kernel 6.1 -user root -run PROGRAM ARGUMENT…
//
// runs one static program and ends with its exit code.
//
//	go run ./tools/kernels -only 6.1/amd64,host -users root,capabilities
//
// runs the agent beside programs that account for themselves, as each user on each kernel, and prints what is promised
// and what was seen.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/tools/kernels/plan"
)

// options are the command line.
type options struct {
	line, arch, user string
	program          string
	args             []string
	files            []inGuest
	env              []string
	cmdline          string
	cache            string
	cpus, memory     int
	limit            time.Duration
	log              bool

	only, users []string // of the table
	results     string
	seconds     float64
	tap         bool
	tries       int
	merge       bool
}

func parse(args []string) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("kernels", flag.ContinueOnError)
	fs.StringVar(&o.line, "kernel", "6.1", "kernel `line`: 6.1, 6.12 or 7.2")
	fs.StringVar(&o.arch, "arch", "amd64", "amd64 or arm64")
	fs.StringVar(&o.user, "user", plan.Root, "root, capabilities (the documented ones), with-sys-admin (one more), "+
		"with-sysctl, unprivileged, or a list such as cap_bpf,cap_perfmon")
	fs.StringVar(&o.program, "run", "", "static `program` to run in the guest; what follows are its arguments")
	fs.Func("file", "another file for the guest, as `FROM` or FROM:TO; without TO it lies in /payload",
		func(v string) error {
			from, to, ok := strings.Cut(v, ":")
			if !ok {
				to = "/payload/" + filepath.Base(from)
			}
			o.files = append(o.files, inGuest{from, to})
			return nil
		})
	fs.Func("env", "`NAME=VALUE` for the program", func(v string) error { o.env = append(o.env, v); return nil })
	fs.StringVar(&o.cmdline, "append", "", "more for the kernel's command line")
	fs.StringVar(&o.cache, "cache", filepath.Join(".cache", "kernels"), "`directory` for packages")
	fs.IntVar(&o.cpus, "cpus", 2, "CPUs of the guest")
	fs.IntVar(&o.memory, "memory", 2048, "its memory in MB")
	fs.DurationVar(&o.limit, "limit", 30*time.Minute, "end the guest after this long")
	fs.BoolVar(&o.log, "log", false, "print the kernel's log at the end")
	list := func(to *[]string, name, usage string) {
		fs.Func(name, usage, func(v string) error { *to = strings.Split(v, ","); return nil })
	}
	o.only = everyKernel()
	list(&o.only, "only", "without -run: `kernels` to try, with their architectures; host is the running one (default "+
		strings.Join(o.only, ",")+")")
	list(&o.users, "users", "without -run: `users` to try them as (default: those that differ on the kernel)")
	fs.StringVar(&o.results, "results", "", "without -run: `directory` for kernels.md and kernels.json; empty: none "+
		"are written")
	fs.Float64Var(&o.seconds, "seconds", 20, "without -run: how long a program is observed")
	fs.BoolVar(&o.merge, "merge", false, "with -results: keep what they have of other kernels and users")
	fs.IntVar(&o.tries, "tries", 1, "without -run: how often what is not as promised is tried; an emulated machine "+
		"beside other work is starved now and then")
	fs.Float64Var(&mostShareError, "share-error", mostShareError, "without -run: by how much a share of time may "+
		"differ from the program's own account")
	fs.BoolVar(&o.tap, "tap", false, "without -run: print a line for each check, in the Test Anything Protocol, "+
		"instead of a table")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	o.args = fs.Args()
	if o.program == "" && len(o.args) > 0 {
		return nil, fmt.Errorf("unexpected %q; programs are run with -run", o.args[0])
	}
	if _, ok := machines[o.arch]; !ok {
		return nil, fmt.Errorf("there is no machine for %q; amd64 and arm64 are known", o.arch)
	}
	for _, user := range append(o.users, o.user) {
		if _, err := plan.ParseUser(user); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// everyKernel names them as -only does.
func everyKernel() (out []string) {
	for _, p := range pins {
		out = append(out, p.Line+"/"+p.Arch)
	}
	return append(out, "host")
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	do := one
	if o.program == "" {
		do = all
	}
	code, err := do(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		code = max(code, 1)
	}
	stop()
	os.Exit(code)
}

// one runs one program in one guest and gives its exit code.
func one(ctx context.Context, o *options) (int, error) {
	p, err := findPin(o.line, o.arch)
	if err != nil {
		return 2, err
	}
	a, err := openArchive(ctx, o.cache)
	if err != nil {
		return 1, err
	}
	pkg, err := a.fetch(ctx, p)
	if err != nil {
		return 1, err
	}
	kernel, err := kernelOf(ctx, pkg.Path)
	if err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "pscope-kernels-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	initProgram := filepath.Join(dir, "init")
	if err := build(ctx, o.arch, initProgram, "./tools/kernels/init"); err != nil {
		return 1, err
	}
	const job = "run"
	at := "/payload/" + filepath.Base(o.program)
	jobs := []plan.Job{{Name: job, Args: append([]string{at}, o.args...), Env: o.env, User: o.user,
		Seconds: o.limit.Seconds()}}
	initramfs := filepath.Join(dir, "initramfs")
	files := append([]inGuest{{o.program, at}}, o.files...)
	if err := writeInitramfs(initramfs, initProgram, plan.Plan{Jobs: jobs, Log: o.log}, files); err != nil {
		return 1, err
	}
	g := guest{arch: o.arch, kernel: kernel, initramfs: initramfs, cpus: o.cpus, memory: o.memory, cmdline: o.cmdline,
		limit: o.limit}
	fmt.Fprintf(os.Stderr, "booting %s %s (%s)\n", pkg.Package, pkg.Version, o.arch)
	if pkg.Instead != "" {
		fmt.Fprintln(os.Stderr, pkg.Instead)
	}
	out, err := g.run(ctx, func(name, text string) {
		if name != "" || o.log {
			fmt.Println(text)
		}
	})
	if err != nil {
		return 1, fmt.Errorf("%w; %s", err, out.lastWords())
	}
	if why, ok := out.failed[job]; ok {
		return 1, fmt.Errorf("%s: %s", at, why)
	}
	code, ok := out.codes[job]
	if !ok {
		return 1, fmt.Errorf("the guest ended while %s ran: %w; %s", at, out.cause(), out.lastWords())
	}
	fmt.Fprintf(os.Stderr, "booted in %s, exit code %d\n", out.booted.Round(time.Second/10), code)
	return code, nil
}

// all runs the table and gives 1 where something is not as promised.
func all(ctx context.Context, o *options) (int, error) {
	t := &tableOf{
		dir: o.cache, users: o.users, seconds: o.seconds, limit: o.limit, built: map[string]programs{},
		say: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	}
	var cells []cell
	for _, name := range o.only {
		begun := len(cells)
		if name == "host" {
			cells = append(cells, t.host(ctx)...)
		} else {
			line, arch, _ := strings.Cut(name, "/")
			p, err := findPin(line, arch)
			if err != nil {
				return 2, err
			}
			cells = append(cells, t.tried(ctx, p, o.tries)...)
		}
		for i := range cells[begun:] {
			c := &cells[begun+i]
			t.say("%s: %s", c.name(), c.outcome())
		}
	}
	if err := ctx.Err(); err != nil {
		return 1, err
	}
	date := time.Now().UTC().Format(time.DateOnly)
	if o.tap {
		tap(os.Stdout, cells)
	} else {
		fmt.Print(markdown(cells, date))
	}
	if o.results != "" {
		if o.merge {
			old, err := readCells(o.results)
			if err != nil {
				return 1, err
			}
			cells = merged(old, cells)
		}
		if err := writeResults(o.results, cells, date); err != nil {
			return 1, err
		}
	}
	for i := range cells {
		if !cells[i].good() {
			return 1, nil
		}
	}
	return 0, nil
}

// build makes a static program.
func build(ctx context.Context, arch, to, pkg string, flags ...string) error {
	args := append(append([]string{"build", "-trimpath", "-o", to}, flags...), pkg)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s for %s: %w\n%s", pkg, arch, err, said)
	}
	return nil
}
