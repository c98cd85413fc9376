package plan

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
)

// Become makes a command run as a user, with exactly that user's capabilities. The caller must be root.
func (u User) Become(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if u.ID == 0 {
		return
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.ID, Gid: u.ID}
	cmd.SysProcAttr.AmbientCaps = u.Caps
}

// Code is the exit code of a command that has ended: 128 + n after signal n. err is for commands that could not be
// started.
func Code(ctx context.Context, err error) (code int, failed error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return 128 + int(s.Signal()), ctx.Err()
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}
