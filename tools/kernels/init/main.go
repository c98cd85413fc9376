//go:build linux

// Command init is the first process of a guest: it mounts what a Linux system has, runs the jobs of a plan and ends the
// guest.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/tools/kernels/plan"
)

func main() {
	// Whatever happens: the end of the first process would be a kernel panic that hides why.
	defer end()
	if err := mountAll(); err != nil {
		say(plan.Failed("init", err))
		return
	}
	if err := upLoopback(); err != nil {
		say(plan.Failed("init", err))
		return
	}
	text, err := os.ReadFile(plan.File)
	var p plan.Plan
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		say(plan.Failed("init", err))
		return
	}
	for _, job := range p.Jobs {
		run(job)
	}
	if p.Log {
		printLog()
	}
}

func say(line string) { fmt.Printf("\n%s%s\n", plan.Mark, line) }

// end leaves the guest. The console's last bytes need a moment.
func end() {
	time.Sleep(200 * time.Millisecond)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// mounts are what programs expect of a system. Those that not every kernel has are optional.
var mounts = []struct {
	kind, at, data string
	optional       bool
}{
	{kind: "proc", at: "/proc"},
	{kind: "sysfs", at: "/sys"},
	{kind: "devtmpfs", at: "/dev"},
	{kind: "tmpfs", at: "/dev/shm", data: "mode=1777"},
	{kind: "tmpfs", at: "/tmp", data: "mode=1777"},
	{kind: "tmpfs", at: "/run", data: "mode=0755"},
	{kind: "tmpfs", at: "/var/lib", data: "mode=0755"},
	{kind: "cgroup2", at: "/sys/fs/cgroup"},
	{kind: "bpf", at: "/sys/fs/bpf", optional: true},
	{kind: "tracefs", at: "/sys/kernel/tracing", optional: true},
	{kind: "securityfs", at: "/sys/kernel/security", optional: true},
}

func mountAll() error {
	for _, m := range mounts {
		err := os.MkdirAll(m.at, 0o755)
		if err == nil {
			err = unix.Mount(m.kind, m.at, m.kind, 0, m.data)
		}
		// A kernel may have mounted devtmpfs by itself.
		if err != nil && !errors.Is(err, unix.EBUSY) && !m.optional {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.at, err)
		}
	}
	return os.Mkdir("/tmp/home", 0o777)
}

// upLoopback makes 127.0.0.1 work.
func upLoopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

func run(job plan.Job) {
	say(plan.Started(job.Name))
	u, err := plan.ParseUser(job.User)
	if err != nil {
		say(plan.Failed(job.Name, err))
		return
	}
	ctx := context.Background()
	if job.Seconds > 0 {
		c, cancel := context.WithTimeout(ctx, time.Duration(job.Seconds*float64(time.Second)))
		defer cancel()
		ctx = c
	}
	cmd := exec.CommandContext(ctx, job.Args[0], job.Args[1:]...)
	cmd.Dir = "/tmp/home"
	cmd.Env = append([]string{"PATH=/payload:/bin", "HOME=/tmp/home", "TMPDIR=/tmp"}, job.Env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	u.Become(cmd)
	code, err := plan.Code(ctx, cmd.Run())
	if err != nil {
		say(plan.Failed(job.Name, err))
		return
	}
	say(plan.Ended(job.Name, code))
}

// printLog prints the kernel's log.
func printLog() {
	const readAll, size = 3, 10 // SYSLOG_ACTION_READ_ALL, SYSLOG_ACTION_SIZE_BUFFER
	n, err := unix.Klogctl(size, nil)
	if err != nil {
		say(plan.Failed("log", err))
		return
	}
	buf := make([]byte, n)
	if n, err = unix.Klogctl(readAll, buf); err != nil {
		say(plan.Failed("log", err))
		return
	}
	_, _ = os.Stdout.Write(buf[:n])
}
