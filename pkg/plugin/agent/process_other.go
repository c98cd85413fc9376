//go:build !linux

package agent

import (
	"errors"
	"syscall"
)

func childAttributes() *syscall.SysProcAttr { return nil }

func privileged(string) error { return errors.New("agents run on Linux only") }

func ownDirectory(string) bool { return false }
