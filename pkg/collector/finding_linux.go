package collector

import (
	"regexp"

	"github.com/p-scope/p-scope/pkg/collector/discover"
	"github.com/p-scope/p-scope/pkg/collector/target"
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// What the finder asks of the collector.

// HasEvents implements discover.Observer.
func (c *collect) HasEvents() bool { return c.kernel != nil }

// Pauses implements discover.Observer.
func (c *collect) Pauses() uint64 { return c.heart.Pauses.Load() }

// Observe implements discover.Observer.
func (c *collect) Observe(t pstate.Target, uid uint32, bin *goruntime.Binary,
	library *process.Mapped) (discover.Runtime, error) {
	o, err := c.observe(t, uid, bin, library)
	if err != nil {
		return nil, err
	}
	return o, nil
}

// List implements discover.Observer.
func (c *collect) List(r discover.Runtime) {
	o := r.(*target.Target)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.observed[o.Key()] = o
	c.rosterChanged()
}

// Discard implements discover.Observer.
func (c *collect) Discard(r discover.Runtime) {
	o := r.(*target.Target)
	c.silence(o)
	c.closing.Go(func() { c.close(o) })
}

// Forget implements discover.Observer.
func (c *collect) Forget(r discover.Runtime) bool { return c.forget(r.(*target.Target)) }

// Runtimes implements discover.Observer.
func (c *collect) Runtimes() []discover.Runtime {
	all := c.all()
	out := make([]discover.Runtime, len(all))
	for i, o := range all {
		out[i] = o
	}
	return out
}

// Choose implements Chooser.
func (c *collect) Choose(include, exclude *regexp.Regexp) { c.found.Choose(include, exclude) }

// runtimesOf lists what is observed of a process.
func (c *collect) runtimesOf(pid int32, startTime uint64) (list []*target.Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, o := range c.observed {
		if k.PID == pid && k.StartTime == startTime {
			list = append(list, o)
		}
	}
	return list
}

// onlySnapshots says why a runtime is not observed by eBPF although others are: BPF programs know one runtime in each
// process.
func (c *collect) onlySnapshots(key pstate.Key) string {
	if c.kernel == nil {
		return ""
	}
	for _, o := range c.runtimesOf(key.PID, key.StartTime) {
		if o.Index() != 0 && o.Key() != key {
			return severalRuntimes(o.Key().Runtime)
		}
	}
	return ""
}

func severalRuntimes(first string) string {
	if first == "" {
		first = "that of its program"
	} else {
		first = "the one in " + first
	}
	return "snapshots only: the process has several Go runtimes, and eBPF observes one of them, " + first
}
