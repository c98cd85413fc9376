package collector

import (
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/target"
)

// EvidenceOf gives what c has of a process. ok is false if it is not observed by eBPF.
func EvidenceOf(c Collector, pid int32) (e target.Evidence, ok bool) {
	own, isOwn := c.(*collect)
	if !isOwn || own.kernel == nil {
		return e, false
	}
	for _, o := range own.all() {
		if o.PID() == pid && o.Index() != 0 {
			own.drain()
			return o.Evidence()
		}
	}
	return e, false
}

// Programs names the BPF programs that an agent loads.
func Programs() ([]string, error) { return kernel.Programs() }
