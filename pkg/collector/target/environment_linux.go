package target

import (
	"log/slog"
	"time"

	"github.com/p-scope/p-scope/pkg/cgroup"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
)

// Environment is what all targets share.
type Environment struct {
	Proc   procfs.FS
	Kernel *kernel.Side // nil: snapshots are all there is
	Clock  *ledger.Clock
	Heart  *kernel.Heartbeat
	Groups *cgroup.Reader
	Sink   Sink
	Log    *slog.Logger
	Limits kernel.Limits

	SnapshotEvery  time.Duration
	IntervalBudget int
	CostBudget     float64
	CostFloor      float64
	Migrations     bool // tier 2 is asked for
	NoStops        bool // tier 1 is not
	Cycle          int  // seconds of a duty cycle that is asked for whatever observing costs; 0: none is
}
