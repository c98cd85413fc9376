package collector

import (
	"context"
	"regexp"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// choice says which processes are observed.
type choice struct {
	include, exclude *regexp.Regexp // as in Options
}

// admits says whether a process is observed.
func (w *choice) admits(t *pstate.Target) bool {
	if w.exclude != nil && (w.exclude.MatchString(t.Process) || w.exclude.MatchString(t.Exe)) {
		return false
	}
	return w.include == nil || w.include.MatchString(t.Process) || w.include.MatchString(t.Exe)
}

// Choose implements Chooser. To everybody else a process that is left out from now on looks as if it had ended.
func (c *collect) Choose(include, exclude *regexp.Regexp) {
	c.choice.Store(&choice{include, exclude})
	select {
	case c.found.chosen <- struct{}{}:
	default: // the finder has not come to the change before; it takes the newest
	}
}

// rechoose makes what is observed follow the choice.
func (f *finder) rechoose(ctx context.Context) {
	c := f.c
	var gone []*observed
	kept := map[int32]bool{}
	c.mu.Lock()
	for _, o := range c.observed {
		if f.wanted(&o.info) {
			kept[o.info.PID] = true
		} else {
			gone = append(gone, o)
		}
	}
	for k, t := range c.refused {
		if f.wanted(&t) {
			kept[k.PID] = true
		} else {
			delete(c.refused, k)
		}
	}
	c.mu.Unlock()
	for _, o := range gone {
		c.forget(o)
	}
	for pid := range f.starting {
		if !kept[pid] {
			delete(f.starting, pid)
		}
	}
	for pid := range f.known {
		if kept[pid] || f.working[pid] != nil {
			continue // work that is going on decides when it ends
		}
		delete(f.known, pid)
		f.libs.forget(pid)
	}
	f.scan(ctx, true)
}
