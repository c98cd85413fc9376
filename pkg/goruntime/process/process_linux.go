package process

import (
	"errors"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/goruntime/memory"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Process is a live Go process opened for reading. Its methods must not be called concurrently.
type Process struct {
	pid       int
	bin       *goruntime.Binary
	bias      uint64
	startTime uint64
	exe       fileID
	entry     uint64  // run-time address of the executable's entry point
	library   *Mapped // the shared library that bin is; nil: bin is the executable
	pidfd     int     // -1 on kernels before 5.3, where the start time is compared instead
	canary    uint64  // address of bytes on the initial stack, which an exec replaces

	reader
	tids tidMap
}

// fileID identifies a file.
type fileID struct {
	dev, ino uint64
}

// Open opens a process that runs the program b. It works out where the program was loaded, and makes sure that the
// process really runs it. The caller needs ptrace access (the same user, or CAP_SYS_PTRACE) and closes the process
// after use. Errors are [*refusal.Error]. A process in the middle of an exec gives [refusal.ErrNotStarted]: try again.
func Open(pid int, b *goruntime.Binary) (*Process, error) {
	return openProcess(&Process{pid: pid, bin: b, pidfd: -1})
}

// OpenLibrary opens a process that has loaded the Go shared library b, as [MappedFiles] found it. The Process is about
// the runtime in that library alone; otherwise it is like that of [Open].
func OpenLibrary(pid int, b *goruntime.Binary, library Mapped) (*Process, error) {
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
		return refusal.New(refusal.Exited, err, "process %d has exited", p.pid)
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
	// The kernel passes the run-time address of the entry point (fs/binfmt_elf.c, create_elf_tables); /proc/<pid>/maps
	// would say the same but names files by device numbers that overlayfs and btrfs do not keep to.
	p.bias = entry - p.bin.Entry
	if !p.bin.PIE && p.bias != 0 || p.bias%4096 != 0 {
		return refusal.New(refusal.Execed, nil, "process %d runs another program than the one inspected", p.pid)
	}
	return p.openImage()
}

// openImage makes sure that the program lies at the addresses that were worked out.
func (p *Process) openImage() error {
	if err := p.verifyImage(); err != nil {
		return err
	}
	if err := p.tids.init(p.pid); err != nil {
		return p.explain(err)
	}
	if !p.alive() {
		return refusal.ErrExited
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
func (p *Process) Binary() *goruntime.Binary { return p.bin }

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

// Alive says why the process can no longer be observed under this Process: refusal.ErrExited, refusal.ErrExeced, or
// nil.
func (p *Process) Alive() error {
	if !p.alive() {
		return refusal.ErrExited
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
		return refusal.ErrExeced
	}
	return nil
}

// verifyImage compares the ELF header and the build ID note in the process's memory with those of the file. So a wrong
// bias or a wrong file is noticed.
func (p *Process) verifyImage() error {
	for _, c := range p.bin.Checks {
		got := make([]byte, len(c.Bytes))
		if err := p.ReadMemory(c.Addr+p.bias, got); err != nil {
			if errors.Is(err, unix.EFAULT) {
				return refusal.New(refusal.Execed, nil, "process %d runs another program than the one inspected", p.pid)
			}
			return err
		}
		if string(got) != string(c.Bytes) {
			return refusal.New(refusal.Execed, nil, "process %d runs another program than the one inspected", p.pid)
		}
	}
	return nil
}

// TLSG is the offset of the thread's slot for its current G from the thread pointer, in this process. For a library it
// is what the dynamic loader left in the library's memory. ok is false if it is not known.
func (p *Process) TLSG() (off int64, ok bool) {
	if p.library == nil {
		return p.bin.TLSG, p.bin.TLSGKnown
	}
	if p.bin.TLSGSlot == 0 {
		return 0, false
	}
	var b [8]byte
	if p.ReadMemory(p.Addr(p.bin.TLSGSlot), b[:]) != nil {
		return 0, false
	}
	off = int64(u64(b[:], 0))
	return off, binary.PlausibleTLSOffset(off)
}

// ReadMemory fills b from the process's memory at a run-time address. The error is a [*refusal.Error], or wraps EFAULT
// if the address is not mapped.
func (p *Process) ReadMemory(addr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	local := [1]unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	remote := [1]unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}
	n, err := memory.Read(p.pid, local[:], remote[:])
	switch {
	case err == nil && n == len(b):
		return nil
	case err == nil || errors.Is(err, unix.EFAULT):
		return refusal.New(refusal.Memory, unix.EFAULT, "process %d has no memory at %#x", p.pid, addr)
	}
	return p.explain(err)
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
		switch u64(b, 0) {
		case atEntry:
			entry = u64(b, 8)
		case atRandom:
			random = u64(b, 8)
		}
	}
	if entry == 0 {
		// It is empty for an instant in the middle of an exec (fs/exec.c, begin_new_exec, comes before fs/binfmt_elf.c,
		// create_elf_tables), and for a zombie.
		if p.alive() {
			return 0, 0, refusal.ErrNotStarted
		}
		return 0, 0, refusal.ErrExited
	}
	return entry, random, nil
}

// explain turns the error of a system call or of procfs into a [refusal.Error].
func (p *Process) explain(err error) error {
	var refused *refusal.Error
	switch {
	case errors.As(err, &refused):
		return err
	case errors.Is(err, unix.ESRCH), errors.Is(err, fs.ErrNotExist):
		return refusal.New(refusal.Exited, nil, "process %d has exited", p.pid)
	case errors.Is(err, fs.ErrPermission): // EPERM and EACCES
		return refusal.New(refusal.NoPrivilege, err, "%s", p.lackingPrivilege())
	}
	return refusal.New(refusal.Memory, err, "process %d cannot be read", p.pid)
}

// hasThread reports whether a thread id, in our PID namespace, belongs to the process.
func (p *Process) hasThread(tid int32) bool {
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(p.pid)+"/task/"+strconv.Itoa(int(tid)), &st) == nil
}
