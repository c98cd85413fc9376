//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/p-scope/p-scope/tools/kernels/plan"
)

// program is a running one that accounts for itself.
type program struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startProgram runs a copy of a program that only its owner may read, as that owner.
func startProgram(from, dir, name string, owner plan.User) (*program, error) {
	at := filepath.Join(dir, name)
	if err := copyFile(from, at, owner.ID); err != nil {
		return nil, err
	}
	p := &program{cmd: exec.Command(at)}
	p.cmd.Stderr = os.Stderr
	owner.Become(p.cmd)
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	return p, p.cmd.Start()
}

func copyFile(from, to string, owner uint32) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, data, 0o700); err != nil {
		return err
	}
	return os.Chown(to, int(owner), int(owner))
}

func (p *program) pid() int { return p.cmd.Process.Pid }

func (p *program) end() {
	_ = p.in.Close()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// ask sends a line and reads the answer into v.
func (p *program) ask(line string, v any) error {
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		return err
	}
	text, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the observed program ended when asked for %q: %w", line, err)
	}
	return json.Unmarshal(text, v)
}
