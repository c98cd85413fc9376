package agent

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttributes keep the agent out of the way of signals meant for Grafana's foreground group.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// privileged says why this process can't start an agent that observes: it must be root, or the program must carry
// capabilities.
func privileged(binary string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	if n, err := unix.Getxattr(binary, "security.capability", nil); err == nil && n > 0 {
		return nil
	}
	return errors.New("neither does Grafana run as root, nor has the agent's program file capabilities")
}

// ownDirectory is true for a directory that belongs to this user and that nobody else may enter.
func ownDirectory(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}
