package goruntime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// Process is a live Go process opened for reading. Its methods must not be called concurrently.
type Process struct {
	pid       int
	bin       *Binary
	bias      uint64
	startTime uint64
	exe       fileID
	entry     uint64  // run-time address of the executable's entry point
	library   *Mapped // the shared library of which bin is the file; nil: it is the executable
	pidfd     int     // -1 on kernels before 5.3, where the start time is compared instead
	canary    uint64  // address of bytes on the initial stack, which an exec replaces

	reader
	tids tidMap
}

// fileID tells one file from another.
type fileID struct {
	dev, ino uint64
}

// OpenProcess opens a process of which b is the executable: it works out where the program was loaded and makes sure that the process really
// runs it. The caller needs ptrace access (the same user, or CAP_SYS_PTRACE). Close it after use. Errors are [*RefusedError]; a process in the middle
// of an exec gives [ErrNotStarted]: try again.
func OpenProcess(pid int, b *Binary) (*Process, error) {
	return openProcess(&Process{pid: pid, bin: b, pidfd: -1})
}

// OpenLibrary opens a process that has loaded a Go shared library of which b is the file, as MappedFiles found it. What
// it returns is about the runtime in that library alone; it is otherwise like that of [OpenProcess].
func OpenLibrary(pid int, b *Binary, library Mapped) (*Process, error) {
	return openProcess(&Process{pid: pid, bin: b, pidfd: -1, library: &library})
}

func openProcess(p *Process) (*Process, error) {
	if err := p.open(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Process) open() error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	switch {
	case err == nil:
		p.pidfd = fd
	case errors.Is(err, unix.ESRCH):
		return refuse(ReasonExited, err, "process %d has exited", p.pid)
	}
	// Everything below is read by pid, and is about the process the pidfd holds if that one still lives at the end.
	if p.startTime, err = startTime(p.pid); err != nil {
		return p.explain(err)
	}
	if p.exe, err = p.exeID(); err != nil {
		return p.explain(err)
	}
	entry, random, err := p.auxv()
	if err != nil {
		return p.explain(err)
	}
	p.entry, p.canary = entry, random
	if p.library != nil {
		if p.bias, err = p.library.bias(p.bin); err != nil {
			return err
		}
		return p.openImage()
	}
	// The kernel passes the run-time address of the entry point (fs/binfmt_elf.c, create_elf_tables); /proc/<pid>/maps would say the same but names
	// files by device numbers that overlayfs and btrfs do not keep to.
	p.bias = entry - p.bin.entry
	if !p.bin.PIE && p.bias != 0 || p.bias%4096 != 0 {
		return refuse(ReasonExeced, nil, "process %d runs another program than the one inspected", p.pid)
	}
	return p.openImage()
}

// openImage makes sure that the program lies where it is taken to lie.
func (p *Process) openImage() error {
	if err := p.verifyImage(); err != nil {
		return err
	}
	if err := p.tids.init(p.pid); err != nil {
		return p.explain(err)
	}
	if !p.alive() {
		return ErrExited
	}
	return nil
}

// Close releases the process.
func (p *Process) Close() {
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
		p.pidfd = -1
	}
}

// PID is the process id in the caller's PID namespace.
func (p *Process) PID() int { return p.pid }

// Key identifies the process for as long as the machine runs.
func (p *Process) Key() pstate.Key { return pstate.Key{PID: int32(p.pid), StartTime: p.startTime} }

// Binary is what the process was opened with.
func (p *Process) Binary() *Binary { return p.bin }

// Bias is what to add to link-time addresses.
func (p *Process) Bias() uint64 { return p.bias }

// Addr translates a link-time address; 0, which means absent, stays 0.
func (p *Process) Addr(linkVA uint64) uint64 {
	if linkVA == 0 {
		return 0
	}
	return linkVA + p.bias
}

// PidFD is the process's pidfd, owned by p, or -1 on kernels before 5.3.
func (p *Process) PidFD() int { return p.pidfd }

// alive reports whether the process opened still exists, in which case its pid has not been given to another.
func (p *Process) alive() bool {
	if p.pidfd >= 0 {
		p.poll[0] = unix.PollFd{Fd: int32(p.pidfd), Events: unix.POLLIN}
		n, err := unix.Poll(p.poll[:], 0)
		return err != nil || n == 0 // a pidfd becomes readable when the process exits
	}
	t, err := startTime(p.pid)
	return err == nil && t == p.startTime
}

// Alive says why the process can no longer be observed under this Process: ErrExited, ErrExeced, or nil.
func (p *Process) Alive() error {
	if !p.alive() {
		return ErrExited
	}
	id, err := p.exeID()
	if err != nil {
		return p.explain(err)
	}
	entry, random, err := p.auxv()
	if err != nil {
		return p.explain(err)
	}
	if id != p.exe || entry != p.entry || random != p.canary {
		return ErrExeced
	}
	return nil
}

// verifyImage compares the ELF header and the build ID note in the process's memory with the file's, so that neither a wrong bias nor a
// wrong file goes unnoticed.
func (p *Process) verifyImage() error {
	for _, c := range p.bin.checks {
		got := make([]byte, len(c.bytes))
		if err := p.ReadMemory(c.addr+p.bias, got); err != nil {
			if errors.Is(err, unix.EFAULT) {
				return refuse(ReasonExeced, nil, "process %d runs another program than the one inspected", p.pid)
			}
			return err
		}
		if string(got) != string(c.bytes) {
			return refuse(ReasonExeced, nil, "process %d runs another program than the one inspected", p.pid)
		}
	}
	return nil
}

// ReadMemory fills b from the process's memory at a run-time address. The error is a [*RefusedError], or wraps EFAULT if the address is not mapped.
func (p *Process) ReadMemory(addr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	local := [1]unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	remote := [1]unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}
	n, err := readMemory(p.pid, local[:], remote[:])
	switch {
	case err == nil && n == len(b):
		return nil
	case err == nil || errors.Is(err, unix.EFAULT):
		return refuse(ReasonMemory, unix.EFAULT, "process %d has no memory at %#x", p.pid, addr)
	}
	return p.explain(err)
}

// OpenExecutable opens the file in which the runtime's code lies, for probes: the program that the process runs, or the
// library it has loaded: a uprobe belongs to a file and an offset in it, and in any other file than the one inspected
// that offset may lie in the middle of an instruction, where a breakpoint breaks the program. The path /proc/<pid>/exe
// is no such promise, because the process may execute another program between any two steps; the file that is returned
// has been checked, the path must not be used again. The caller closes it. Unlike the other methods it may be called
// at any time, also after Close: it may have to wait for the file system.
func (p *Process) OpenExecutable() (*os.File, error) {
	path := "/proc/" + strconv.Itoa(p.pid) + "/exe"
	if p.library != nil {
		path = p.library.PathFrom("/proc", p.pid)
	}
	f, err := OpenRegular(path)
	if err != nil && p.library != nil {
		return nil, refuse(ReasonUnreadable, err, "the library %s of process %d cannot be opened by its path",
			p.library.Path, p.pid)
	}
	if err != nil {
		return nil, p.explain(err)
	}
	if err := p.checkExecutable(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (p *Process) checkExecutable(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return p.explain(err)
	}
	if p.library == nil && (fileID{uint64(st.Dev), st.Ino}) != p.exe {
		return ErrExeced
	}
	if p.library != nil && st.Ino != p.library.Inode {
		return refuse(ReasonExeced, nil, "the file %s is another one than process %d has loaded", p.library.Path, p.pid)
	}
	for _, sites := range [][]ProbeSite{p.bin.Probes, p.bin.HotProbes} {
		for _, s := range sites {
			if !s.in(f) {
				return refuse(ReasonExeced, nil, "the file of process %d is not the one inspected: it differs at %s", p.pid, s.Func)
			}
		}
	}
	return nil
}

// exeID identifies the executable. The link is followed by the kernel inside the target's mount namespace. The file
// system is not asked (AT_STATX_DONT_SYNC, statx(2)): the server of a network file system or of FUSE may not answer.
func (p *Process) exeID() (fileID, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, "/proc/"+strconv.Itoa(p.pid)+"/exe", unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
	if err != nil {
		return fileID{}, err
	}
	return fileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, nil
}

// auxv reads the entry point and the address of the random bytes from the auxiliary vector.
func (p *Process) auxv() (entry, random uint64, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/auxv")
	if err != nil {
		return 0, 0, err
	}
	const (
		atEntry  = 9
		atRandom = 25
	)
	for ; len(b) >= 16; b = b[16:] {
		switch binary.NativeEndian.Uint64(b) {
		case atEntry:
			entry = binary.NativeEndian.Uint64(b[8:])
		case atRandom:
			random = binary.NativeEndian.Uint64(b[8:])
		}
	}
	if entry == 0 {
		// It is empty for an instant in the middle of an exec (fs/exec.c, begin_new_exec, comes before fs/binfmt_elf.c, create_elf_tables), and
		// for a zombie.
		if p.alive() {
			return 0, 0, ErrNotStarted
		}
		return 0, 0, ErrExited
	}
	return entry, random, nil
}

func startTime(pid int) (uint64, error) { return startTimeIn("/proc", pid) }

// startTimeIn reads field 22 of /proc/<pid>/stat.
func startTimeIn(procRoot string, pid int) (uint64, error) {
	fields, err := statFields(procRoot, pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// statFields gives the fields of /proc/<pid>/stat from the third on. The command name before them may contain anything,
// blanks and brackets included.
func statFields(procRoot string, pid int) ([]string, error) {
	b, err := os.ReadFile(procRoot + "/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat has too few fields", pid)
	}
	return f, nil
}

// explain turns the error of a system call or of procfs into a RefusedError.
func (p *Process) explain(err error) error {
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		return err
	case errors.Is(err, unix.ESRCH), errors.Is(err, fs.ErrNotExist):
		return refuse(ReasonExited, nil, "process %d has exited", p.pid)
	case errors.Is(err, fs.ErrPermission): // EPERM and EACCES
		return refuse(ReasonNoPrivilege, err, "%s", p.lackingPrivilege())
	}
	return refuse(ReasonMemory, err, "process %d cannot be read", p.pid)
}

// lackingPrivilege says what keeps us from reading the process (kernel/ptrace.c, __ptrace_may_access; security/yama/yama_lsm.c).
func (p *Process) lackingPrivilege() string {
	if !canReadSelf() {
		return "the system call process_vm_readv is forbidden here, probably by the container's seccomp profile; allow it or add CAP_SYS_PTRACE"
	}
	scope := 0
	if b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil {
		scope, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	switch {
	case scope >= 3:
		return "kernel.yama.ptrace_scope is 3, which forbids reading other processes' memory until the next boot"
	case scope >= 1 && sameUser(p.pid):
		return fmt.Sprintf("kernel.yama.ptrace_scope is %d, which forbids reading other processes' memory without CAP_SYS_PTRACE", scope)
	case !sameUser(p.pid):
		return fmt.Sprintf("process %d belongs to another user; reading its memory needs CAP_SYS_PTRACE", p.pid)
	}
	return fmt.Sprintf("reading the memory of process %d needs CAP_SYS_PTRACE: it has more privileges than this one, changed them, or is protected by a security module", p.pid)
}

// canReadSelf tries process_vm_readv where no access check applies.
func canReadSelf() bool {
	var from, to [1]byte
	local := [1]unix.Iovec{{Base: &to[0]}}
	local[0].SetLen(1)
	remote := [1]unix.RemoteIovec{{Base: addressOf(&from), Len: 1}}
	_, err := unix.ProcessVMReadv(os.Getpid(), local[:], remote[:], 0)
	return err == nil
}

// hasThread reports whether a thread id, in our PID namespace, belongs to the process.
func (p *Process) hasThread(tid int32) bool {
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(p.pid)+"/task/"+strconv.Itoa(int(tid)), &st) == nil
}

func sameUser(pid int) bool {
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(pid), &st) == nil && int(st.Uid) == os.Geteuid()
}
