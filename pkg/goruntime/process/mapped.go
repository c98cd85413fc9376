package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// Mapped is a file whose code a process has mapped: its executable, or a shared library.
type Mapped struct {
	Path    string // as the process sees it, without " (deleted)"
	Deleted bool
	// of the file system, as /proc has it: "08:01". It is distinct for each file system, but on overlayfs and btrfs it
	// is not what stat gives
	Device string
	Inode  uint64 // of the file
	Start  uint64 // address of the mapping with the lowest offset in the file
	End    uint64 // where that mapping ends
	Offset uint64 // that offset
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

// MappedFiles lists the files whose code a process has mapped, in the order of their addresses, from the contents of
// /proc/<pid>/maps (proc_pid_maps(5)). A library that is loaded twice is listed twice. The error is that of r, or of a
// line that cannot be understood, or [ErrManyMappings] with what was found so far.
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

// KernelPath is the kernel's own path to the file, which works even when the file has no name any more. It takes
// CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN (proc_pid_map_files(5)).
func (m *Mapped) KernelPath(procRoot string, pid int) string {
	return filepath.Join(procRoot, strconv.Itoa(pid), "map_files", fmt.Sprintf("%x-%x", m.Start, m.End))
}

// bias is what to add to the link-time addresses of the file. Whether it is right shows when the memory there is
// compared with the file.
func (m *Mapped) bias(b *goruntime.Binary) (uint64, error) {
	for _, s := range b.Segments {
		if s.Off&^(pageSize-1) == m.Offset {
			return m.Start - s.Vaddr&^(pageSize-1), nil
		}
	}
	return 0, refusal.New(
		refusal.Execed,
		nil,
		"the library %s is mapped from offset %#x, where the file inspected has no segment",
		m.Path,
		m.Offset,
	)
}

// pageSize is the smallest page size of amd64 and arm64; linkers align segments to it or to more.
const pageSize = 4096
