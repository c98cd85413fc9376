package target

import (
	"github.com/p-scope/p-scope/pkg/collector/govern"
	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/collector/ledger"
	"github.com/p-scope/p-scope/pkg/collector/migration"
)

// Inside is what tests of a whole collector read and change inside a target, whose lock is held meanwhile.
type Inside struct{ o *Target }

// Inspect calls a function with the inside of the target.
func (o *Target) Inspect(fn func(in Inside)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fn(Inside{o})
}

// Governor is what decides how much is observed.
func (in Inside) Governor() *govern.Governor { return &in.o.gov }

// Step brings the observation to a level.
func (in Inside) Step(to govern.Level) { in.o.step(to) }

// LeftAlone says whether the target has a duty cycle and is not observed now.
func (in Inside) LeftAlone() bool { return in.o.cycle.off }

// SnapshotsLeftOut is how many snapshots were left out since the last one.
func (in Inside) SnapshotsLeftOut() int { return in.o.idle.Skipped }

// QueueLooks is how many depths of a P's run queue have been counted.
func (in Inside) QueueLooks(p int) (n uint64) {
	for _, m := range in.o.ps[p].runqHist {
		n += m
	}
	return n
}

// Received is how many events have been taken in.
func (in Inside) Received() uint64 { return in.o.received }

// Lost is what the agent counted of a kind of loss.
func (in Inside) Lost(reason string) uint64 { return in.o.lost[reason] }

// LostInKernel is what the kernel side counted of it.
func (in Inside) LostInKernel(reason kern.ScopeLostReason) uint64 { return in.o.lostInKernel(reason) }

// Records are those of the Ps.
func (in Inside) Records() []*kern.ScopeP_record {
	out := make([]*kern.ScopeP_record, len(in.o.ps))
	for i, p := range in.o.ps {
		out[i] = p.rec
	}
	return out
}

// Renew writes the word of a P anew, and gives since when it has been so.
func (in Inside) Renew(p int, now uint64) (since uint64) {
	q := in.o.ps[p]
	in.o.renew(q, now)
	ledger.RenewD(q.rec, now)
	return q.renewed.SinceOf(q.rec.Word, 0)
}

// Address is where a link-time address of the program is in the process.
func (in Inside) Address(linked uint64) uint64 { return in.o.proc.Addr(linked) }

// Entry is the target's entry in the table of targets.
func (o *Target) Entry() *kern.ScopeTarget { return o.shared }

// Migrations is tier 2 of the target; nil unless it is asked for.
func (o *Target) Migrations() *migration.Counter {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.migrations
}
