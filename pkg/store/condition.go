package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
)

// The errors that callers act on.
var (
	// ErrReopen: the databases take nothing more until the Store has been closed and opened anew.
	ErrReopen = errors.New("the history has to be opened anew")
	// ErrNoRoom: the disk has no more room than is kept in reserve.
	ErrNoRoom = errors.New("the disk is full: free space, or lower --retention-size")
	// ErrInUse: another process has the data directory open.
	ErrInUse = errors.New("another agent")
)

// DiskFails says whether an error comes from a disk that can't be written at present: it fails, or the kernel has made
// it read-only because it does. What is on it is as good as before once it can be written again.
func DiskFails(err error) bool { return errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO) }

// FailingDisk is the condition of a disk that err says can't be written.
func FailingDisk(dir string, err error) Condition {
	return Condition{What: "history", Why: fmt.Sprintf("the disk of %s can't be written: %v", dir, err),
		Fix: "see what the kernel says of the disk (dmesg), repair it or mount it to be written; the history goes on " +
			"by itself then"}
}

// Condition is something that is wrong with the history now, and what the user does about it.
type Condition struct{ What, Why, Fix string }

// noRoom is What of a full disk's condition.
const noRoom = "room for the history"

// NoRoom is the condition of a disk that err says is full.
func NoRoom(dir string, err error) Condition {
	return Condition{What: noRoom, Why: fmt.Sprintf("nothing is written to %s: %v", dir, err),
		Fix: "free space on its disk, or lower --retention-size; writing goes on by itself then"}
}

// Conditions gives what is wrong now.
func (s *Store) Conditions() []Condition {
	s.lossMu.Lock()
	defer s.lossMu.Unlock()
	s.forgetSteps()
	out := make([]Condition, 0, len(s.conditions))
	for _, what := range slices.Sorted(maps.Keys(s.conditions)) {
		out = append(out, s.conditions[what])
	}
	return out
}

func (s *Store) set(c Condition) {
	s.lossMu.Lock()
	defer s.lossMu.Unlock()
	s.conditions[c.What] = c
}

func (s *Store) unset(what string) {
	s.lossMu.Lock()
	defer s.lossMu.Unlock()
	delete(s.conditions, what)
}

// fullDisk says whether an error comes from a disk, a quota or a reserve that is used up.
func fullDisk(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, ErrNoRoom)
}
