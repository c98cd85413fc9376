package collector

import (
	"regexp"
	"testing"
	"time"
)

// TestChoiceChanges: who is observed changes while the collector runs, also of processes that were there before.
func TestChoiceChanges(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode Mode) {
		p := start(t)
		pid := p.cmd.Process.Pid
		none := regexp.MustCompile("^no such process$")
		c, rec := collectIn(t, mode, func(o *Options) { o.Include = none })
		time.Sleep(1500 * time.Millisecond)
		if view(c, pid) != nil {
			t.Fatal("a process that was not chosen is observed")
		}
		all := regexp.MustCompile("^pscope-test-target$")
		c.(Chooser).Choose(all, nil)
		seen(t, c, pid)
		key := view(c, pid).Key
		c.(Chooser).Choose(all, all)
		waitFor(t, "the end of the observation", func() bool { return view(c, pid) == nil })
		rec.mu.Lock()
		ended := rec.ended[key]
		rec.mu.Unlock()
		if ended == 0 {
			t.Error("nobody is told that the observation has ended")
		}
		time.Sleep(1500 * time.Millisecond)
		if view(c, pid) != nil {
			t.Error("it is observed again")
		}
		for range 20 { // the last of many changes counts
			c.(Chooser).Choose(none, nil)
			c.(Chooser).Choose(all, nil)
		}
		seen(t, c, pid)
	})
}
