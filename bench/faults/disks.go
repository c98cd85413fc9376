//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// disks are faults of the disk that the history is on, and of what lies on it.
func disks() []kind {
	return []kind{
		{name: "disk full for 20 s", happen: diskFull},
		{
			name: "disk slow for 20 s: 1.5 s for each write",
			happen: func(dir string) (*outcome, error) {
				return badDisk(dir, func(d *faultyDisk) { d.delay.Store(int64(1500 * time.Millisecond)) })
			},
		},
		{
			name: "disk does not answer for 20 s",
			happen: func(dir string) (*outcome, error) {
				return badDisk(dir, func(d *faultyDisk) { d.delay.Store(int64(20 * time.Second)) })
			},
		},
		{
			name: "disk read-only for 20 s",
			happen: func(dir string) (*outcome, error) {
				return badDisk(dir, func(d *faultyDisk) { d.refusal.Store(int32(syscall.EROFS)) })
			},
		},
		{
			name: "disk fails (EIO) for 20 s",
			happen: func(dir string) (*outcome, error) {
				return badDisk(dir, func(d *faultyDisk) { d.refusal.Store(int32(syscall.EIO)) })
			},
		},
		{
			name:   "log torn: 100 bytes cut off its end",
			happen: func(dir string) (*outcome, error) { return agentEnds(dir, storage{}, syscall.SIGKILL, cutLog) },
		},
		{
			name:   "log damaged: a byte flipped in its last tenth",
			happen: func(dir string) (*outcome, error) { return agentEnds(dir, storage{}, syscall.SIGKILL, flipLog) },
		},
		{
			name: "log damaged: a byte flipped in the middle of several segments",
			happen: func(dir string) (*outcome, error) {
				return agentEnds(dir, storage{size: oldDisk, filled: true}, syscall.SIGKILL, flipSegment)
			},
		},
		{
			name: "block damaged: a byte flipped in its samples",
			happen: func(dir string) (*outcome, error) {
				return agentEnds(dir, storage{size: oldDisk, filled: true}, syscall.SIGKILL, flipBlock)
			},
		},
	}
}

const (
	smallDisk = 96 << 20
	oldDisk   = 512 << 20 // below a GiB the log is cut into files of 1 MiB
)

func diskFull(dir string) (*outcome, error) {
	return during(dir, storage{size: smallDisk}, func(r *rig) (string, error) {
		ballast := filepath.Join(r.data, "ballast")
		f, err := os.Create(ballast)
		if err != nil {
			return "", err
		}
		defer f.Close()
		// What becomes free meanwhile is taken, too.
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			for err = nil; err == nil; {
				_, err = f.Write(make([]byte, 64<<10))
			}
			if !errors.Is(err, syscall.ENOSPC) {
				return "", err
			}
		}
		return "", os.Remove(ballast)
	})
}

// badDisk lets a FUSE file system do something wrong for 20 s.
func badDisk(dir string, wrong func(d *faultyDisk)) (*outcome, error) {
	return during(dir, storage{faulty: true}, func(r *rig) (string, error) {
		before := r.restarts()
		wrong(r.disk)
		time.Sleep(20 * time.Second)
		r.disk.heal()
		time.Sleep(time.Second)
		if n := r.restarts() - before; n > 0 {
			return fmt.Sprintf("history process started again %.0f times", n), nil
		}
		return "", nil
	})
}

// logs gives the segments of the log of full resolution, oldest first.
func logs(data string) ([]string, error) {
	all, err := filepath.Glob(filepath.Join(data, "history", "raw", "wal", "[0-9]*"))
	if err != nil || len(all) == 0 {
		return nil, fmt.Errorf("no log in %s (%v)", data, err)
	}
	slices.Sort(all)
	return all, nil
}

// lastLog gives the newest segment and its size.
func lastLog(data string) (string, int64, error) {
	all, err := logs(data)
	if err != nil {
		return "", 0, err
	}
	fi, err := os.Stat(all[len(all)-1])
	if err != nil {
		return "", 0, err
	}
	return all[len(all)-1], fi.Size(), nil
}

func cutLog(data string) error {
	file, size, err := lastLog(data)
	if err != nil {
		return err
	}
	return os.Truncate(file, max(size-100, 0))
}

func flipLog(data string) error {
	file, size, err := lastLog(data)
	if err != nil {
		return err
	}
	return flip(file, size-size/10)
}

// flip changes a bit.
func flip(file string, at int64) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 0x40
	_, err = f.WriteAt(b[:], at)
	return err
}

func flipSegment(data string) error {
	all, err := logs(data)
	if err != nil {
		return err
	}
	if len(all) < 3 {
		return fmt.Errorf("the log has %d segments, three are needed", len(all))
	}
	file := all[len(all)/2]
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	return flip(file, fi.Size()/2)
}

func flipBlock(data string) error {
	all, err := filepath.Glob(filepath.Join(data, "history", "raw", "*[0-9A-Z]", "chunks", "000001"))
	if err != nil || len(all) == 0 {
		return fmt.Errorf("no block in %s (%v)", data, err)
	}
	slices.Sort(all)
	file := all[len(all)-1]
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	return flip(file, fi.Size()/2)
}
