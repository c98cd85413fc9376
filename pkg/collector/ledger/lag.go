package ledger

import (
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// A Lag is the mean time between an edge the runtime makes silently and the one the tracepoints show in its place: a
// thread takes a P some microseconds after it came onto the CPU and gives it back some microseconds before it leaves.
// Thousands of bursts a second turn that into points of busy share. The kernel side counts the bursts that end this way
// and the time that the samples stand for which found their thread on the CPU without a P; the ratio is the mean,
// without a probe on the target. Likewise for a P that was handed to an M, which takes it a while after it has come
// onto the CPU, and for a call in which a thread has lost its P.
type Lag struct {
	ticks, bursts         float64 // remembered
	samples               float64 // that the ticks come from, by the period of now
	seenTicks, seenBursts uint64
	WantsSamples          bool // more samples would teach something worth knowing
	most                  float64
}

const (
	// What is assumed until a target has taught better: runtime/trace has 1.5 to 6 µs between the edges on the machines
	// tried (bench/truth -edges).
	lagPrior       = float64(2200*time.Nanosecond) / float64(Tick)
	lagPriorBursts = 2000
	lagRemembered  = 2000 // samples after which the past is halved, so that a lag follows a target that changes
	lagKnown       = 200  // samples from which on a lag is known to within a tenth
	maxLag         = float64(kern.ScopeLagBoundsMAX_LAG)

	// A call in which a thread loses its P may go on for any time, and how long it does differs from program to
	// program.
	maxLagLost         = 1_562_500 // ticks, 100 ms
	lagLostPriorBursts = 20
	lagMatters         = 300 // bursts a second below which a lag is less than a tenth of a point
)

func newLag() Lag {
	return Lag{ticks: lagPrior * lagPriorBursts, bursts: lagPriorBursts, most: maxLag}
}

// NewLags makes those of a target, in the order of the kernel side's.
func NewLags() (l [kern.ScopeLagLAGS]Lag) {
	for i := range l {
		l[i] = newLag()
	}
	l[kern.ScopeLagLAG_LOST] = Lag{ticks: lagPrior * lagLostPriorBursts, bursts: lagLostPriorBursts, most: maxLagLost}
	return l
}

// Learn takes the kernel side's counts, the time between two samples, and the time since the last call, and gives the
// lag in ticks.
func (l *Lag) Learn(ticks, bursts uint64, period, since time.Duration) uint32 {
	newTicks, newBursts := float64(ticks-l.seenTicks), float64(bursts-l.seenBursts)
	l.seenTicks, l.seenBursts = ticks, bursts
	l.ticks += newTicks
	l.bursts += newBursts
	l.samples += newTicks / float64(period/Tick)
	if l.samples > lagRemembered {
		l.ticks /= 2
		l.bursts /= 2
		l.samples /= 2
	}
	l.WantsSamples = l.samples < lagKnown && newBursts >= lagMatters*since.Seconds()
	return uint32(min(l.ticks/l.bursts, l.most))
}
