package collector

import (
	"cmp"
	"slices"

	"github.com/p-scope/p-scope/pkg/collector/discover"
	"github.com/p-scope/p-scope/pkg/collector/share"
	"github.com/p-scope/p-scope/pkg/collector/target"
)

// MakeRoom chooses processes of the user who has most of what a process of another one lacks.
func (c *collect) MakeRoom(uid uint32, lacks *share.Error) (chosen []discover.Runtime) {
	if c.kernel == nil {
		return nil
	}
	// coming is what is free, or will be when its quarantine is over.
	owner, has, mine, coming := c.kernel.LargestUser(lacks.Kind, uid)
	if owner == uid {
		return nil
	}
	for _, o := range c.all() {
		if o.Index() != 0 {
			coming -= o.RoomTaken(lacks.Kind)
		}
	}
	type giver struct {
		o    *target.Target
		gets int
	}
	var givers []giver
	for _, o := range c.all() {
		if o.UID() == owner && o.Index() != 0 {
			givers = append(givers, giver{o, o.RoomTaken(lacks.Kind)})
		}
	}
	slices.SortFunc(givers, func(a, b giver) int { return cmp.Compare(b.o.Begun(), a.o.Begun()) })
	for need := lacks.Needed - coming; need > 0 && len(givers) > 0; givers = givers[1:] {
		g := givers[0]
		if has-g.gets < mine+lacks.Needed {
			continue
		}
		has, need = has-g.gets, need-g.gets
		chosen = append(chosen, g.o)
	}
	return chosen
}

// shareThreads counts the threads in the table by user. Nobody is asked before a thread is entered there, so a target
// that has too many is let go when the table is nearly full.
func (c *collect) shareThreads(byTarget func(*target.Target) int) {
	has, targets := map[uint32]int{}, 0
	var largest *target.Target
	for _, o := range c.all() {
		if o.Index() == 0 {
			continue
		}
		n := byTarget(o)
		o.SetThreadsHeld(n)
		has[o.UID()] += n
		targets++
	}
	if !c.kernel.SetThreads(has) {
		return
	}
	uid, most, _, total := c.kernel.LargestUser(share.Threads, 0)
	for _, o := range c.all() {
		if o.UID() != uid || o.Index() == 0 {
			continue
		}
		if largest == nil || o.RoomTaken(share.Threads) > largest.RoomTaken(share.Threads) {
			largest = o
		}
	}
	if largest == nil {
		return
	}
	ofUser := len(has) > 1 && most > total/len(has)
	if n := largest.RoomTaken(share.Threads); ofUser || targets > 1 && n > total/2 {
		c.found.TooManyThreads(largest.PID(), n)
	}
}
