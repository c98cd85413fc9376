package goruntime

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mapped is a file of which a process has mapped code: its executable, or a shared library.
type Mapped struct {
	Path    string // as the process sees it, without " (deleted)"
	Deleted bool
	// of the file system, as /proc has it: "08:01". It tells file systems apart, but overlayfs and btrfs name another one
	// here than stat does
	Device string
	Inode  uint64 // of the file
	Start  uint64 // address of the mapping with the lowest offset in the file
	End    uint64 // where that mapping ends
	Offset uint64 // that offset
}

// OpenRegular opens a file for reading whose path others may change at any moment. What is no regular file is refused
// without being opened: opening a FIFO waits for a writer, and opening a device may do anything. Nor does it wait for
// the owner of a lease on the file to give that up, which takes up to 45 s (fcntl(2), F_SETLEASE): the error is EAGAIN
// then.
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

// Bounds of what is read of /proc/<pid>/maps. A JVM or a browser has some thousand mappings; the kernel's limit is
// 65530 by default.
const (
	maxMaps     = 8 << 20 // bytes
	maxMapped   = 4096    // files
	maxMapsLine = 8 << 10 // PATH_MAX, each byte of which may be escaped, and the fields before it
)

// ErrManyMappings says that a process has more mappings than are looked at.
var ErrManyMappings = errors.New("the process has more mappings than are looked at")

// MappedFiles lists the files of which a process has mapped code, in the order of their addresses, from the contents of
// /proc/<pid>/maps (proc_pid_maps(5)). A library that is loaded twice is listed twice. The error is that of r,
// [ErrManyMappings] besides what was found so far, or of a line that cannot be understood.
func MappedFiles(r io.Reader) (files []Mapped, err error) {
	limited := &io.LimitedReader{R: r, N: maxMaps + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 4096), maxMapsLine)
	var at Mapped // the file whose mappings are being read
	code, listed := false, false
	for lines.Scan() {
		if limited.N <= 0 || len(files) >= maxMapped {
			return files, ErrManyMappings
		}
		m, executable, ok, err := parseMapping(lines.Bytes())
		if err != nil {
			return files, err
		}
		if !ok {
			continue // no file: anonymous memory lies between the segments of a library as well
		}
		if m.Inode != at.Inode || m.Path != at.Path || m.Offset == 0 {
			at, code, listed = m, false, false
		}
		if code = code || executable; code && !listed {
			files, listed = append(files, at), true
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return files, fmt.Errorf("a line of /proc/<pid>/maps is longer than %d bytes", maxMapsLine)
	}
	return files, lines.Err()
}

// FileMappings lists the mappings of files in a piece of /proc/<pid>/maps, each of them, whether of code or not. The
// error is of a line that cannot be understood.
func FileMappings(maps []byte) (list []Mapped, err error) {
	for line := range bytes.Lines(maps) {
		m, _, ok, err := parseMapping(bytes.TrimSuffix(line, []byte{'\n'}))
		if err != nil {
			return list, err
		}
		if ok {
			list = append(list, m)
		}
	}
	return list, nil
}

// parseMapping reads a line of /proc/<pid>/maps: "start-end perms offset dev inode   path". ok is false for a mapping
// of no file.
func parseMapping(line []byte) (m Mapped, executable, ok bool, err error) {
	bad := fmt.Errorf("/proc/<pid>/maps has a line that is not as proc_pid_maps(5) has it: %.80q", line)
	var fields [5][]byte
	rest := line
	for i := range fields {
		var found bool
		fields[i], rest, found = bytes.Cut(rest, []byte{' '})
		if !found && i < len(fields)-1 || len(fields[i]) == 0 {
			return m, false, false, bad
		}
	}
	from, to, isRange := bytes.Cut(fields[0], []byte{'-'})
	start, err1 := strconv.ParseUint(string(from), 16, 64)
	offset, err2 := strconv.ParseUint(string(fields[2]), 16, 64)
	inode, err3 := strconv.ParseUint(string(fields[4]), 10, 64)
	end, err4 := strconv.ParseUint(string(to), 16, 64)
	if !isRange || err4 != nil || len(fields[1]) != 4 || err1 != nil || err2 != nil || err3 != nil {
		return m, false, false, bad
	}
	path := string(bytes.TrimLeft(rest, " "))
	if inode == 0 || !strings.HasPrefix(path, "/") {
		return m, false, false, nil
	}
	m = Mapped{Path: strings.ReplaceAll(path, `\012`, "\n"), Device: string(fields[3]), Inode: inode,
		Start: start, End: end, Offset: offset}
	m.Path, m.Deleted = strings.CutSuffix(m.Path, " (deleted)")
	return m, fields[1][2] == 'x', true, nil
}

// PathFrom is where the file is opened by another process: through the root folder of the process that has mapped it.
func (m *Mapped) PathFrom(procRoot string, pid int) string {
	return filepath.Join(procRoot, strconv.Itoa(pid), "root", filepath.Clean(m.Path))
}

// KernelPath is how the kernel itself leads to the file, also when it has no name any more; it takes
// CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN (proc_pid_map_files(5)).
func (m *Mapped) KernelPath(procRoot string, pid int) string {
	return filepath.Join(procRoot, strconv.Itoa(pid), "map_files", fmt.Sprintf("%x-%x", m.Start, m.End))
}

// bias is what to add to the link-time addresses of the file. That it is right is seen when the memory there is
// compared with the file.
func (m *Mapped) bias(b *Binary) (uint64, error) {
	for _, s := range b.segments {
		if s.Off&^(pageSize-1) == m.Offset {
			return m.Start - s.Vaddr&^(pageSize-1), nil
		}
	}
	return 0, refuse(
		ReasonExeced,
		nil,
		"the library %s is mapped from offset %#x, where the file inspected has no segment",
		m.Path,
		m.Offset,
	)
}

// pageSize is the smallest page size of amd64 and arm64; linkers align segments to it or to more.
const pageSize = 4096

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
	return off, plausibleTLS(off)
}
