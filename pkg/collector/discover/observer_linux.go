package discover

import (
	"maps"
	"slices"
	"sync"

	"github.com/p-scope/p-scope/pkg/collector/share"
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/process"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Runtime is a Go runtime under observation, as the finder sees it.
type Runtime interface {
	// Description is the target with what is known of it now; its key never changes.
	Description() pstate.Target
	// LibraryStart is where the library that the runtime is in begins in the process's memory; 0: the runtime is in the
	// program.
	LibraryStart() uint64
	// ByEvents says whether it has room in the tables of the kernel side.
	ByEvents() bool
	// Alive says whether the process still runs what is observed.
	Alive() bool
}

// Observer observes what a finder finds.
type Observer interface {
	// HasEvents says whether there is a kernel side, which reports each program that is executed.
	HasEvents() bool
	// Pauses is how often the agent was not running for a while. What was known of processes may be out of date then.
	Pauses() uint64
	// Observe begins to observe a runtime, in a process's program or in a library that it has mapped. Nobody else sees
	// it before List.
	Observe(t pstate.Target, uid uint32, bin *goruntime.Binary, library *process.Mapped) (Runtime, error)
	// List makes an observation known, Discard ends one that was never listed.
	List(Runtime)
	Discard(Runtime)
	// Forget ends an observation. It is false if somebody else has ended it.
	Forget(Runtime) bool
	// Runtimes are those that are listed.
	Runtimes() []Runtime
	// MakeRoom chooses those whose observation should end, so that a user's process gets the room that it lacks.
	MakeRoom(uid uint32, lacks *share.Error) []Runtime
}

// Refusals are the processes, or runtimes in them, that are not observed, with the reason.
type Refusals struct {
	mu    sync.Mutex
	byKey map[pstate.Key]pstate.Target
}

// set notes one, and gives the reason that was noted before.
func (r *Refusals) set(t pstate.Target) (before string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byKey == nil {
		r.byKey = map[pstate.Key]pstate.Target{}
	}
	before = r.byKey[t.Key].Reason
	r.byKey[t.Key] = t
	return before
}

// deleteIf forgets those that a function chooses.
func (r *Refusals) deleteIf(which func(t *pstate.Target) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.byKey, func(_ pstate.Key, t pstate.Target) bool { return which(&t) })
}

// delete forgets one.
func (r *Refusals) delete(key pstate.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byKey, key)
}

// All lists them.
func (r *Refusals) All() []pstate.Target {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.byKey))
}
