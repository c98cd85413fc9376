package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/p-scope/p-scope/tools/kernels/plan"
)

// machines are the emulated ones, by Go's name of the architecture.
var machines = map[string]struct {
	program string
	args    []string
	cmdline string
}{
	// Without that word Linux takes the emulated time stamp counter for unsafe, and every look at the clock is a call
	// into the emulator.
	"amd64": {"qemu-system-x86_64", []string{"-cpu", "max"}, "console=ttyS0 tsc=reliable"},
	// Pointer authentication by QARMA5 takes an emulator most of its time; the other algorithm is as good here.
	"arm64": {"qemu-system-aarch64", []string{"-M", "virt", "-cpu", "max,pauth-impdef=on"}, "console=ttyAMA0"},
}

// guest is one boot.
type guest struct {
	arch      string
	kernel    string // file
	initramfs string // file
	cpus      int
	memory    int // MB
	cmdline   string
	limit     time.Duration // killed after so long
}

// outcome is what became of a boot.
type outcome struct {
	codes   map[string]int    // exit codes of the jobs that ended
	failed  map[string]string // why the others could not be run
	console []string          // its last lines
	booted  time.Duration     // until the first job began
}

// keptLines is how much of a console is kept for the case that something fails.
const keptLines = 400

// run boots the guest and waits for its end. line gets each line that a job prints, with the job's name.
func (g guest) run(ctx context.Context, line func(job, text string)) (o outcome, err error) {
	m := machines[g.arch]
	ctx, cancel := context.WithTimeout(ctx, g.limit)
	defer cancel()
	args := append([]string{
		"-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-net", "none",
		"-m", fmt.Sprint(g.memory), "-smp", fmt.Sprint(g.cpus), "-kernel", g.kernel, "-initrd", g.initramfs,
		"-append", strings.TrimSpace(m.cmdline + " panic=-1 quiet loglevel=1 " + g.cmdline),
	}, m.args...)
	cmd := exec.CommandContext(ctx, m.program, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return o, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return o, fmt.Errorf("%w; on Debian: apt-get install qemu-system-x86 qemu-system-arm", err)
	}
	o = outcome{codes: map[string]int{}, failed: map[string]string{}}
	o.read(out, began, line)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("the guest was not done after %s", g.limit)
	case err != nil:
		err = fmt.Errorf("%s: %w: %s", m.program, err, strings.TrimSpace(errs.String()))
	case o.booted == 0:
		err = fmt.Errorf("the guest ended before its first job: %w", o.cause())
	}
	if why := o.failed["init"]; why != "" {
		err = fmt.Errorf("the guest could not start: %s", why)
	}
	return o, err
}

// lastWords are the console's last lines, for people.
func (o *outcome) lastWords() string {
	const shown = 60
	return "its console's last lines:\n" + strings.Join(o.console[max(0, len(o.console)-shown):], "\n")
}

// read follows the console to its end.
func (o *outcome) read(r io.Reader, began time.Time, line func(job, text string)) {
	in := bufio.NewReaderSize(r, 1<<20)
	job := ""
	for {
		text, err := in.ReadString('\n')
		text = strings.TrimRight(text, "\r\n")
		if err != nil && text == "" {
			return
		}
		if o.console = append(o.console, text); len(o.console) > keptLines {
			o.console = o.console[1:]
		}
		// The kernel may have printed something on the same line.
		_, word, marked := strings.Cut(text, plan.Mark)
		switch {
		case !marked:
			line(job, text)
		case strings.HasPrefix(word, plan.Started("")):
			job = strings.TrimPrefix(word, plan.Started(""))
			if o.booted == 0 {
				o.booted = time.Since(began)
			}
		default:
			if name, code, ok := plan.ParseEnded(word); ok {
				o.codes[name] = code
			} else if name, why, ok := plan.ParseFailed(word); ok {
				o.failed[name] = why
			}
			job = ""
		}
	}
}

// errPatching is a fault of qemu's emulation of several x86 CPUs: one of them runs into the breakpoint that the kernel
// puts over an instruction while it patches it, as it does for each tracepoint, after the kernel is done. A program
// that only attaches and detaches an empty program to sched_switch ends 6.12 and 7.2 so within a hundred times (qemu
// 7.2).
var errPatching = errors.New("the emulator lost the race of a breakpoint in patched kernel code (Oops: int3)")

// cause is why a guest ended before it was done, as far as its console tells.
func (o *outcome) cause() error {
	for _, line := range o.console {
		if strings.Contains(line, "Oops: int3") {
			return errPatching
		}
	}
	return errors.New("no reason is known")
}
