package kernel

import (
	"fmt"
	"sync/atomic"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// Enter makes a process a target.
func (k *Side) Enter(pid int32, target uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	atomic.StoreUint32(&k.Targets[target].Active, uint32(kern.ScopeActivityOBSERVED))
	if err := k.Objects.TargetIndex.Put(uint32(pid), target); err != nil {
		return fmt.Errorf("enter it in the kernel's table of targets: %w", err)
	}
	k.entered[uint32(pid)] = target
	k.hint(uint32(pid))
	return nil
}

// Leave undoes enter. The process may be a target under another index by now: it runs another program, or is another
// process.
func (k *Side) Leave(pid int32, target uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	atomic.StoreUint32(&k.Targets[target].Active, uint32(kern.ScopeActivityNOT_OBSERVED))
	var now uint32
	if k.Objects.TargetIndex.Lookup(uint32(pid), &now) == nil && now == target {
		_ = k.Objects.TargetIndex.Delete(uint32(pid))
		delete(k.entered, uint32(pid))
		k.hint(uint32(pid))
	}
}

// Pause makes the kernel side see nothing of a target but its stops.
func (k *Side) Pause(pid int32, target uint32) {
	k.setActivity(pid, target, kern.ScopeActivityOBSERVED, kern.ScopeActivitySTOPS_ONLY)
}

// Resume undoes pause.
func (k *Side) Resume(pid int32, target uint32) {
	k.setActivity(pid, target, kern.ScopeActivitySTOPS_ONLY, kern.ScopeActivityOBSERVED)
}

// setActivity changes what the kernel side does about a target, unless that has retired it.
func (k *Side) setActivity(pid int32, target uint32, from, to kern.ScopeActivity) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if atomic.CompareAndSwapUint32(&k.Targets[target].Active, uint32(from), uint32(to)) {
		k.hint(uint32(pid))
	}
}

// The table of hints, as bpf/maps.h has it.
const (
	hints      = uint32(kern.ScopeHintsHINTS)
	hintShared = uint64(kern.ScopeHintsHINT_SHARED)
)

// hint brings the kernel side's short cut to a tgid's target up to date. Several targets may share it.
func (k *Side) hint(tgid uint32) {
	var v uint64
	for t, index := range k.entered {
		switch {
		case t%hints != tgid%hints ||
			atomic.LoadUint32(&k.Targets[index].Active) == uint32(kern.ScopeActivitySTOPS_ONLY):
		case v == 0:
			v = uint64(index)
		default:
			v = hintShared
		}
	}
	word, shift := &k.hints[tgid%hints/4], tgid%4*16
	atomic.StoreUint64(word, *word&^(0xffff<<shift)|v<<shift)
}

// RemoveThreads removes the threads of a target from the table.
func (k *Side) RemoveThreads(target uint32) {
	k.Threads.RemoveIf(func(th *kern.ScopeThread) bool { return th.Target == target })
}
