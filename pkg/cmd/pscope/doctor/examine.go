//go:build linux

package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/p-scope/p-scope/pkg/collector"
)

// The processes of the host are looked at by a child. One of their files may lie on a file system that does not answer,
// and a process of which a thread waits for that can't end: doctor does not wait for the child to end.

// ExamineCommand is the hidden subcommand that looks at the processes.
const ExamineCommand = "doctor-examine"

// examineGrace is how much longer than its own limit the child is waited for.
const examineGrace = 10 * time.Second

// examination is what the child says.
type examination struct {
	Found  []collector.Prospect
	Lacks  []collector.Lack
	Hidden int
	Room   collector.Room
}

// RunExamine is that subcommand: what an agent here is like stands on its input, what it would make of each process is
// written to its output.
func RunExamine(ctx context.Context, _ []string) (int, error) {
	var as collector.AgentInfo
	if err := json.NewDecoder(os.Stdin).Decode(&as); err != nil {
		return 2, fmt.Errorf("%s is for doctor's own use: %w", ExamineCommand, err)
	}
	ctx, cancel := context.WithTimeout(ctx, processesMost)
	defer cancel()
	var x examination
	o := collector.Options{Except: []int32{int32(os.Getppid())}}
	x.Found, x.Lacks, x.Hidden, x.Room = collector.Examine(ctx, o, as)
	if err := json.NewEncoder(os.Stdout).Encode(x); err != nil {
		return 1, err
	}
	return 0, nil
}

// examineAside looks at the processes by a child.
func examineAside(ctx context.Context, as collector.AgentInfo) (x examination, err error) {
	input, err := json.Marshal(as)
	if err != nil {
		return x, err
	}
	// The very program that runs, also if its file has been replaced meanwhile. Nothing of doctor's is left open to it:
	// who reads doctor's output would wait for it, too.
	cmd := exec.Command("/proc/self/exe", ExamineCommand)
	cmd.Args[0] = "pscope"
	cmd.Stdin = bytes.NewReader(input)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return x, err
	}
	if err := cmd.Start(); err != nil {
		return x, fmt.Errorf("start a process that looks at the others: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(time.Second): // it hangs for as long as a file does not answer
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, processesMost+examineGrace)
	defer cancel()
	done := make(chan error, 1)
	var got examination // x is not for the goroutine, which may be left
	go func() { done <- json.NewDecoder(out).Decode(&got) }()
	select {
	case err := <-done:
		if err != nil {
			return x, fmt.Errorf("the process that looks at the others ended without an answer: %w", err)
		}
		return got, nil
	case <-ctx.Done():
		return x, fmt.Errorf("the processes of this host could not be looked at within %v", processesMost)
	}
}
