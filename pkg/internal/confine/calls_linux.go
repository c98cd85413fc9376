package confine

// The system calls that stay, by what they are for. They are chosen wide: a call that Go's runtime or a library begins to use must not end the
// agent. What is left out changes the host, other processes or the kernel: mounts, modules, clocks, tracing, namespaces, keys, io_uring, users.

// Names are those of the library, which calls the same call fstatat on arm64 and newfstatat on amd64.

// ordinaryCalls are what every Go program may use for files, memory, threads, time and open sockets.
var ordinaryCalls = []string{
	// Files.
	"access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64",
	"fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr", "flock", "fstat", "fstatat", "fstatfs", "fsync",
	"ftruncate", "getcwd", "getdents", "getdents64", "getxattr", "inotify_add_watch", "inotify_init1", "inotify_rm_watch", "ioctl", "lchown", "lgetxattr",
	"link", "linkat", "lseek", "lstat", "memfd_create", "mkdir", "mkdirat", "newfstatat", "open", "openat", "openat2", "pipe", "pipe2", "pread64", "preadv",
	"preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir",
	"sendfile", "splice", "stat", "statfs", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "tee", "truncate", "umask", "unlink",
	"unlinkat", "utimensat", "write", "writev",
	// Waiting.
	"epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd2", "poll", "ppoll", "pselect6", "select", "timerfd_create",
	"timerfd_gettime", "timerfd_settime",
	// Memory.
	"brk", "madvise", "membarrier", "mincore", "mlock", "mlock2", "mmap", "mprotect", "mremap", "msync", "munlock", "munmap",
	// Threads, signals and time.
	"arch_prctl", "clock_getres", "clock_gettime", "clock_nanosleep", "clone", "clone3", "exit", "exit_group", "fork", "futex", "futex_waitv", "get_robust_list",
	"getcpu", "getitimer", "gettid", "gettimeofday", "kill", "nanosleep", "pause", "pidfd_open", "pidfd_send_signal", "prctl", "restart_syscall", "rseq",
	"rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo",
	"sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_setaffinity",
	"sched_yield", "set_robust_list", "set_tid_address", "setitimer", "sigaltstack", "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun",
	"timer_gettime", "timer_settime", "times", "tkill", "vfork", "wait4", "waitid",
	// What the process is.
	"capget", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresuid",
	"getrlimit", "getrusage", "getsid", "getuid", "prlimit64", "setpgid", "setpriority", "setrlimit", "setsid", "sysinfo", "uname",
	// Sockets that are open.
	"accept", "accept4", "getpeername", "getsockname", "getsockopt", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt",
	"shutdown", "socketpair",
}

// socketCalls open sockets.
var socketCalls = []string{"bind", "connect", "listen", "socket"}

// observingCalls are what the agent needs besides. It starts the process that keeps the history, which then confines itself: a filter is inherited, so
// the calls for that must pass here.
var observingCalls = []string{
	"bpf", "capset", "execve", "execveat", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "perf_event_open", "process_vm_readv",
	"seccomp",
}
