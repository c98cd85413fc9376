package collector

import (
	"cmp"
	"slices"

	"github.com/p-scope/p-scope/pkg/collector/target"
)

// roster is who is observed at one moment. It is made anew when that changes, which is rare, and read many times a
// second without being copied: nobody may change what it holds.
type roster struct {
	all     []*target.Target // listed as observed, by pid
	byIndex indexed          // those included whose observation is just beginning or ending
}

// indexed are targets by their place in the kernel's table, nil where there is none. It is asked for every event,
// thousands of times a second.
type indexed []*target.Target

// at is the target in a place; nil if none is there.
func (t indexed) at(i uint32) *target.Target {
	if int(i) >= len(t) {
		return nil
	}
	return t[i]
}

// rosterChanged makes the roster anew. The caller holds mu.
func (c *collect) rosterChanged() {
	r := &roster{all: make([]*target.Target, 0, len(c.observed))}
	for _, o := range c.observed {
		r.all = append(r.all, o)
	}
	slices.SortFunc(r.all, func(a, b *target.Target) int { return cmp.Compare(a.PID(), b.PID()) })
	for i, o := range c.byIndex {
		if missing := int(i) + 1 - len(r.byIndex); missing > 0 {
			r.byIndex = append(r.byIndex, make(indexed, missing)...)
		}
		r.byIndex[i] = o
	}
	c.roster.Store(r)
}

// all lists the observed targets by pid.
func (c *collect) all() []*target.Target { return c.roster.Load().all }

// indexed lists the targets in the kernel's table by their place in it.
func (c *collect) indexed() indexed { return c.roster.Load().byIndex }
