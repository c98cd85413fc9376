package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// OpenRegular opens a file for reading whose path others may change at any moment. It refuses what is not a regular
// file without opening it: opening a FIFO waits for a writer, and opening a device may do anything. If somebody holds a
// lease on the file, the error is EAGAIN: waiting for its owner takes up to 45 s (fcntl(2), F_SETLEASE).
func OpenRegular(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "fstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	name := fmt.Sprintf("/proc/self/fd/%d", fd)
	opened, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	// Go adds files that do not block to its epoll, and adding one whose file system does not answer (FUSE_POLL) would
	// hold up everything in this process that waits for descriptors.
	if err := unix.SetNonblock(opened, false); err != nil {
		unix.Close(opened)
		return nil, &fs.PathError{Op: "fcntl", Path: path, Err: err}
	}
	return os.NewFile(uintptr(opened), name), nil
}

// OpenExecutable opens the file that has the runtime's code, for probes: the program that the process runs, or the
// library that it has loaded. The caller closes it.
//
// A uprobe belongs to a file and an offset in it. In another file than the one inspected that offset may lie in the
// middle of an instruction, where a breakpoint breaks the program. The path /proc/<pid>/exe may lead to another file at
// any time, because the process may execute another program. So the file that is returned has been checked, and the
// path must not be used again.
//
// Unlike the other methods it may be called at any time, also after Close: it may have to wait for the file system.
func (p *Process) OpenExecutable() (*os.File, error) {
	path := "/proc/" + strconv.Itoa(p.pid) + "/exe"
	if p.library != nil {
		path = p.library.PathFrom("/proc", p.pid)
	}
	f, err := OpenRegular(path)
	if err != nil && p.library != nil {
		return nil, refusal.New(refusal.Unreadable, err, "the library %s of process %d cannot be opened by its path",
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
		return refusal.ErrExeced
	}
	if p.library != nil && st.Ino != p.library.Inode {
		return refusal.New(refusal.Execed, nil, "the file %s is another one than process %d has loaded",
			p.library.Path, p.pid)
	}
	for _, s := range p.bin.Probes {
		if !s.In(f) {
			return refusal.New(refusal.Execed, nil, "the file of process %d is not the one inspected: it differs at %s",
				p.pid, s.Func)
		}
	}
	return nil
}
