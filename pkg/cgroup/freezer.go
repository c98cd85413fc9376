package cgroup

import (
	"strings"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/cleantext"
)

// freezer is a group that can be frozen, by itself or with one above it.
type freezer struct {
	place
	v1 bool
}

// Freezer says what the freezers do to a group.
type Freezer uint8

// The states of a freezer.
const (
	Thawed   Freezer = iota
	Freezing         // it is to be frozen, and some of its threads are not yet
	Frozen           // all of them are, unless they are stopped
)

// Frozen says whether all threads of a group are frozen, as of no longer ago than age.
func (r *Reader) Frozen(g *Group, now time.Time, age time.Duration) bool {
	for i := range g.freezers {
		if r.holds(&g.freezers[i], now, age) {
			return true
		}
	}
	return false
}

func (r *Reader) holds(f *freezer, now time.Time, age time.Duration) bool {
	if f.path == "/" { // the root can't be frozen
		return false
	}
	if f.v1 {
		content, err := r.read(f.dir, "freezer.state", now, age)
		return err == nil && strings.TrimSpace(content) == "FROZEN"
	}
	content, err := r.read(f.dir, "cgroup.events", now, age)
	frozen, ok := field(content, "frozen")
	return err == nil && ok && frozen == 1
}

// FreezerOf is Frozen in detail, for a group of which threads are known to be frozen: it looks at the ancestors as
// well, and gives the path of the nearest one that is to be frozen; none if that is not visible here.
func (r *Reader) FreezerOf(g *Group, now time.Time, age time.Duration) (state Freezer, path string) {
	for i := range g.freezers {
		f := &g.freezers[i]
		name := "cgroup.freeze" // what is asked of the group itself
		if f.v1 {
			name = "freezer.self_freezing"
		}
		frozen := r.holds(f, now, age)
		for steps, at := range f.up {
			content, err := r.read(f.dirOf(steps), name, now, age)
			if err != nil || strings.TrimSpace(content) != "1" {
				continue
			}
			if frozen {
				return Frozen, cleantext.Name(at, cleantext.MaxPath)
			}
			state, path = Freezing, cleantext.Name(at, cleantext.MaxPath)
			break
		}
		if frozen {
			return Frozen, ""
		}
	}
	return state, path
}
