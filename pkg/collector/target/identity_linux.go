package target

import (
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Key identifies the target.
func (o *Target) Key() pstate.Key { return o.info.Key }

// PID is its process.
func (o *Target) PID() int32 { return o.info.PID }

// Process is the name of its process.
func (o *Target) Process() string { return o.info.Process }

// UID is the user whose room it takes.
func (o *Target) UID() uint32 { return o.uid }

// Index is its place in the table of targets; 0 without eBPF.
func (o *Target) Index() uint32 { return o.index }

// Begun is when its observation was begun, in ticks.
func (o *Target) Begun() uint64 { return o.begun }

// Binary is its program, or the library that its runtime is in.
func (o *Target) Binary() *goruntime.Binary { return o.bin }

// NumPs is how many Ps have records.
func (o *Target) NumPs() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.ps)
}

// Quiet says whether nothing was read of it when a snapshot was due last. Whoever takes the snapshots may ask.
func (o *Target) Quiet() bool { return o.idle.Quiet }
