package discover

import (
	"github.com/p-scope/p-scope/pkg/collector/share"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// endFor ends an observation for lack of room. It is tried again.
func (f *Finder) endFor(r Runtime, why error) {
	t := r.Description()
	if !f.observer.Forget(r) {
		return
	}
	f.Counts.RoomGiven.Add(1)
	f.waitForRoom(t, r.LibraryStart() != 0)
	t.Layout = pstate.LayoutNone
	f.refuse(t, why)
}

// waitForRoom makes a process be tried again with the next scan.
func (f *Finder) waitForRoom(t pstate.Target, library bool) {
	if library {
		f.libs.lookAgain(t.PID)
		return
	}
	if id, ok := f.known[t.PID]; ok {
		f.starting[t.PID] = id
		delete(f.known, t.PID)
	}
}

// tooMany ends the observation of a process that has too many threads.
func (f *Finder) tooMany(q question) {
	id, ok := f.known[q.pid]
	if !ok {
		return
	}
	for _, r := range f.runtimesOf(q.pid, id.startTime) {
		if r.ByEvents() {
			f.endFor(r, share.TooManyThreads(q.threads))
		}
	}
}
