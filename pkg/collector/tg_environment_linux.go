package collector

import (
	"log/slog"
	"time"

	"github.com/p-scope/p-scope/pkg/cgroup"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
)

// environment is what all targets share.
type environment struct {
	proc    procfs.FS
	kernel  *kernel.Side // nil: snapshots are all there is
	clock   *ledger.Clock
	heart   *kernel.Heartbeat
	cgroups *cgroup.Reader
	sink    Sink
	log     *slog.Logger
	limits  kernel.Limits

	snapshotEvery  time.Duration
	intervalBudget int
	costBudget     float64
	costFloor      float64
	migrations     bool // tier 2 is asked for
	noStops        bool // tier 1 is not
	cycle          int  // seconds of a duty cycle that is asked for whatever observing costs; 0: none is
}
