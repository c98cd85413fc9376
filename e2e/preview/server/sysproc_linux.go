package main

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel stop the plugin when the preview is killed and can't do it itself.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
