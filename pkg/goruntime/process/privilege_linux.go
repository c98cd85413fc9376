package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lackingPrivilege says what keeps us from reading the process (kernel/ptrace.c, __ptrace_may_access;
// security/yama/yama_lsm.c).
func (p *Process) lackingPrivilege() string {
	if !canReadSelf() {
		return "the system call process_vm_readv is forbidden here, probably by the container's seccomp profile; " +
			"allow it or add CAP_SYS_PTRACE"
	}
	scope := 0
	if b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil {
		scope, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	switch {
	case scope >= 3:
		return "kernel.yama.ptrace_scope is 3, which forbids reading other processes' memory until the next boot"
	case scope >= 1 && sameUser(p.pid):
		return fmt.Sprintf("kernel.yama.ptrace_scope is %d, which forbids reading other processes' memory without "+
			"CAP_SYS_PTRACE", scope)
	case !sameUser(p.pid):
		return fmt.Sprintf("process %d belongs to another user; reading its memory needs CAP_SYS_PTRACE", p.pid)
	}
	return fmt.Sprintf("reading the memory of process %d needs CAP_SYS_PTRACE: it has more privileges than this one, "+
		"changed them, or is protected by a security module", p.pid)
}

// canReadSelf tries process_vm_readv where no access check applies.
func canReadSelf() bool {
	var from, to [1]byte
	local := [1]unix.Iovec{{Base: &to[0]}}
	local[0].SetLen(1)
	remote := [1]unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&from)), Len: 1}}
	_, err := unix.ProcessVMReadv(os.Getpid(), local[:], remote[:], 0)
	return err == nil
}

func sameUser(pid int) bool {
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(pid), &st) == nil && int(st.Uid) == os.Geteuid()
}
