// Package agentinfo says what an agent is, and what its host lets it do. Everybody may import it who shows that.
package agentinfo

import (
	"github.com/p-scope/p-scope/pkg/internal/confine"
	"github.com/p-scope/p-scope/pkg/lack"
)

// Info describes the observing side.
type Info struct {
	Mode   string // "ebpf" or "snapshot"
	Kernel string // release, as uname has it
	Arch   string // amd64 or arm64
	Lacks  []lack.Lack
	// GlobalLost counts losses that belong to no target, by reason.
	GlobalLost map[string]uint64
	// NeedsAdmin says that this kernel asks for CAP_SYS_ADMIN while processes are observed, not only for CAP_BPF and
	// CAP_PERFMON.
	NeedsAdmin bool
	// GivenUp is what the processes of the agent gave up after their start; nil: they keep it, as they were asked to.
	GivenUp []confine.Measure
}
