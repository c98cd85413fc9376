package discover

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

// Choose changes which processes are observed. To everybody else a process that is left out from now on looks as if it
// had ended.
func (f *Finder) Choose(include, exclude *regexp.Regexp) {
	f.choice.Store(&choice{include, exclude})
	select {
	case f.choiceChanged <- struct{}{}:
	default: // the finder has not come to the change before; it takes the newest
	}
}

// rechoose makes what is observed follow the choice.
func (f *Finder) rechoose(ctx context.Context) {
	kept := map[int32]bool{}
	for _, r := range f.observer.Runtimes() {
		if t := r.Description(); f.wanted(&t) {
			kept[t.PID] = true
		} else {
			f.observer.Forget(r)
		}
	}
	f.Refused.deleteIf(func(t *pstate.Target) bool {
		kept[t.PID] = kept[t.PID] || f.wanted(t)
		return !f.wanted(t)
	})
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
