//go:build !linux

package process

import (
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Process is a live Go process; only Linux can read one.
type Process struct{}

var errUnsupported = &refusal.Error{Reason: refusal.Unsupported, Detail: "processes can be observed on Linux only"}

// Open always fails with [refusal.Unsupported] here.
func Open(int, *goruntime.Binary) (*Process, error) { return nil, errUnsupported }

// Close does nothing here.
func (p *Process) Close() {}

// PID is 0 here.
func (p *Process) PID() int { return 0 }

// Key is empty here.
func (p *Process) Key() pstate.Key { return pstate.Key{} }

// Addr gives the address back here.
func (p *Process) Addr(linkVA uint64) uint64 { return linkVA }

// Validate always fails here.
func (p *Process) Validate() error { return errUnsupported }

// Snapshot always fails here.
func (p *Process) Snapshot(*Snapshot, bool) error { return errUnsupported }
