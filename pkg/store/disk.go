package store

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The reserve: what stays free on the disk, so that blocks can be written, and others find room, when the history has
// to stop.
const (
	minReserve = 4 << 20
	maxReserve = 256 << 20
	smallDisk  = 1 << 30 // below: files are cut smaller
)

// disk is the file system the history is on.
type disk struct {
	dir     string
	size    int64
	reserve int64
	full    bool // there was no room when it was last asked
}

func newDisk(dir string, reserve int64) (*disk, error) {
	d := &disk{dir: dir}
	_, size, err := d.free()
	if err != nil {
		return nil, err
	}
	d.size = size
	if d.reserve = reserve; d.reserve <= 0 {
		d.reserve = min(max(size/20, minReserve), maxReserve)
	}
	return d, nil
}

// free gives what a user other than root can still write, and the size of the file system; bytes.
func (d *disk) free() (free, size int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return 0, 0, fmt.Errorf("can't see how much room %s has: %w; choose another directory with --data-dir",
			d.dir, err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// room says whether anything may be written: more is free than the reserve, and a quarter more than that to begin
// again.
func (d *disk) room() error {
	free, _, err := d.free()
	if err != nil {
		return err
	}
	need := d.reserve
	if d.full {
		need += need / 4
	}
	if d.full = free < need; d.full {
		return fmt.Errorf("%s are free and %s stay in reserve: %w", bytesOf(free), bytesOf(need), ErrNoRoom)
	}
	return nil
}

// fit lowers the limit of the history's size to what its disk can hold: what it has, or nine tenths of that and all
// that is free beyond twice the reserve. On a small disk it is half of what there is beyond twice the reserve: limits
// of size bite long before those of time there, so one block may hold nearly everything, and for a moment its successor
// is beside it. most <= 0 is no limit and stays so.
func (d *disk) fit(most int64) int64 {
	free, _, err := d.free()
	if most <= 0 || err != nil {
		return most
	}
	own := sizeOf(d.dir)
	can := (own+free)/10*9 - 2*d.reserve
	if d.size < smallDisk {
		can = (own + free - 2*d.reserve) / 2
	}
	return min(most, max(own, can, minReserve))
}

// segments gives the sizes of a log's and a block's files. TSDB takes a block's file whole while it writes it (512 MiB,
// were it not told otherwise; tsdb/chunks/chunks.go, cutSegmentFile), so that on a small disk no block could ever be
// written.
func (d *disk) segments() (log int, block int64) {
	if d.size < smallDisk {
		return 1 << 20, 2 << 20
	}
	return 8 << 20, 16 << 20
}

// sizeOf adds up the files below a directory.
func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // a file that is gone meanwhile takes no room
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}

func bytesOf(n int64) string {
	if n >= 10<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// syncDir makes renames in a directory last.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
