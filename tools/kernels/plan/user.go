package plan

import (
	"fmt"
	"slices"
	"strings"
)

// The users of a guest by name. Any other name is a list of capabilities, separated by commas.
const (
	Root       = "root"
	Documented = "capabilities"   // an unprivileged user with the documented capabilities
	WithAdmin  = "with-sys-admin" // one with those and CAP_SYS_ADMIN
	// one with the documented capabilities, where kernel.perf_event_paranoid has been set to 2
	WithSysctl   = "with-sysctl"
	Unprivileged = "unprivileged" // one without any
)

// UnprivilegedID is the user and group of everyone but root.
const UnprivilegedID = 1000

// DocumentedCaps are the capabilities that docs/install.md asks for.
var DocumentedCaps = []string{"cap_bpf", "cap_perfmon", "cap_sys_ptrace", "cap_dac_read_search"}

// caps are the kernel's numbers, in order (include/uapi/linux/capability.h).
var caps = []string{
	"cap_chown", "cap_dac_override", "cap_dac_read_search", "cap_fowner", "cap_fsetid", "cap_kill", "cap_setgid",
	"cap_setuid", "cap_setpcap",
	"cap_linux_immutable", "cap_net_bind_service", "cap_net_broadcast", "cap_net_admin", "cap_net_raw", "cap_ipc_lock",
	"cap_ipc_owner",
	"cap_sys_module", "cap_sys_rawio", "cap_sys_chroot", "cap_sys_ptrace", "cap_sys_pacct", "cap_sys_admin",
	"cap_sys_boot", "cap_sys_nice",
	"cap_sys_resource", "cap_sys_time", "cap_sys_tty_config", "cap_mknod", "cap_lease", "cap_audit_write",
	"cap_audit_control", "cap_setfcap",
	"cap_mac_override", "cap_mac_admin", "cap_syslog", "cap_wake_alarm", "cap_block_suspend", "cap_audit_read",
	"cap_perfmon", "cap_bpf",
	"cap_checkpoint_restore",
}

// User is whom a program runs as.
type User struct {
	ID   uint32    // user and group
	Caps []uintptr // the only capabilities it has; root has all
}

// ParseUser reads a user's name: root, capabilities, with-sys-admin, with-sysctl, unprivileged, or the capabilities
// themselves, as in "cap_bpf,cap_perfmon".
func ParseUser(name string) (User, error) {
	switch name {
	case Root:
		return User{}, nil
	case Unprivileged:
		return User{ID: UnprivilegedID}, nil
	case Documented, WithSysctl:
		name = strings.Join(DocumentedCaps, ",")
	case WithAdmin:
		name = strings.Join(DocumentedCaps, ",") + ",cap_sys_admin"
	}
	u := User{ID: UnprivilegedID}
	for c := range strings.SplitSeq(name, ",") {
		n := slices.Index(caps, strings.ToLower(strings.TrimSpace(c)))
		if n < 0 {
			return User{}, fmt.Errorf("%q is neither %s, %s, %s, %s, %s nor a list of capabilities such as "+
				"cap_bpf,cap_perfmon", name,
				Root, Documented, WithAdmin, WithSysctl, Unprivileged)
		}
		u.Caps = append(u.Caps, uintptr(n))
	}
	return u, nil
}
