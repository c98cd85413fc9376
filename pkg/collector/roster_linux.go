package collector

import (
	"cmp"
	"slices"
)

// roster is who is observed at one moment. It is made anew when that changes, which is rare, and read many times a second without being copied: nobody
// may change what it holds.
type roster struct {
	all     []*observed          // listed as observed, by pid
	byIndex map[uint32]*observed // by their place in the kernel's table, those included whose observation is just beginning or ending
}

// rosterChanged makes the roster anew. The caller holds mu.
func (c *collect) rosterChanged() {
	r := &roster{all: make([]*observed, 0, len(c.observed)), byIndex: make(map[uint32]*observed, len(c.byIndex))}
	for _, o := range c.observed {
		r.all = append(r.all, o)
	}
	slices.SortFunc(r.all, func(a, b *observed) int { return cmp.Compare(a.info.PID, b.info.PID) })
	for i, o := range c.byIndex {
		r.byIndex[i] = o
	}
	c.roster.Store(r)
}

// all lists the observed targets by pid.
func (c *collect) all() []*observed { return c.roster.Load().all }

// indexed lists the targets in the kernel's table by their place in it.
func (c *collect) indexed() map[uint32]*observed { return c.roster.Load().byIndex }
