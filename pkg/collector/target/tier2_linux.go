package target

import (
	"github.com/p-scope/p-scope/pkg/collector/migration"
	"github.com/p-scope/p-scope/pkg/goruntime/probes"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// tier2Budget is the share of a target's CPU time for tier 2 where the rest has no limit.
const tier2Budget = 0.02

// StartMigrations begins tier 2, if it is asked for and can be.
func (o *Target) StartMigrations() {
	if o.kernel != nil && o.env.Migrations {
		o.StartMigrationsAt(o.bin.StartedProbe())
	}
}

// StartMigrationsAt begins tier 2 with the probe's place, or notes why there is none.
func (o *Target) StartMigrationsAt(site probes.Site, err error) {
	m := migration.New(migration.Config{
		Kernel: o.kernel, Heart: o.env.Heart, Limits: &o.env.Limits, Proc: o.env.Proc,
		Log:  o.env.Log.With("process", o.info.Process, "pid", o.info.PID),
		Host: o, PID: o.info.PID, Target: o.index,
		GoidOffset: uint32(o.bin.Layout.G.GoID),
	})
	o.mu.Lock()
	o.migrations = m
	o.mu.Unlock()
	if err != nil {
		m.SetOff(err.Error())
		return
	}
	m.Start(site)
}

// EndMigrations waits until the probe is out of the target's code. Nobody may hold a lock who calls it.
func (o *Target) EndMigrations() {
	o.mu.Lock()
	m := o.migrations
	o.mu.Unlock()
	if m != nil {
		m.Stop()
	}
}

// Budget implements migrationHost.
func (o *Target) Budget() (share, floor float64, left bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	share, floor = o.gov.Budget, o.gov.Floor
	if share < 0 {
		share, floor = tier2Budget, 0
	}
	// Tiers 0 and 1 come first.
	return max(0, share-o.gov.Share()), floor, o.closed || !o.scope().Migrations
}

// Slots implements migrationHost.
func (o *Target) Slots() ([]int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, refusal.ErrExited
	}
	slots := make([]int, len(o.ps))
	for i := range slots {
		slots[i] = o.slot(int32(i))
	}
	return slots, nil
}

// MigrationsChanged implements migrationHost.
func (o *Target) MigrationsChanged(string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.describeLevel()
	return true
}
