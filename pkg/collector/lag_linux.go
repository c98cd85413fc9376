package collector

import (
	"sync/atomic"
)

// A lag is the mean time between an edge the runtime makes silently and the one the tracepoints show in its place: a thread takes a P some
// microseconds after it came onto the CPU and gives it back some microseconds before it leaves. Thousands of bursts a second turn that into points of
// busy share. The kernel side counts the bursts that end this way and the samples that found their thread on the CPU without a P; samples stand for a
// period each, so that their ratio is the mean, without a probe on the target.
type lag struct {
	samples, bursts         float64 // remembered
	seenSamples, seenBursts uint64
}

const (
	lagRemembered = 2000 // samples after which the past is halved, so that a lag follows a target that changes
	lagTrusted    = 10   // samples below which a lag is not applied: its error would be a third of it or more
	lagMost       = 312  // ticks, 20 µs: what is more is no hand-over but a thread that works without a P
)

// learn takes the kernel side's counts and gives the lag in ticks.
func (l *lag) learn(samples, bursts, period uint64) uint32 {
	l.samples += float64(samples - l.seenSamples)
	l.bursts += float64(bursts - l.seenBursts)
	l.seenSamples, l.seenBursts = samples, bursts
	if l.samples > lagRemembered {
		l.samples /= 2
		l.bursts /= 2
	}
	if l.samples < lagTrusted || l.bursts < 1 {
		return 0
	}
	return uint32(min(l.samples/l.bursts*float64(period), lagMost))
}

// learnLags brings the kernel side's lags up to date.
func (o *observed) learnLags() {
	for i := range o.lags {
		samples, bursts := atomic.LoadUint64(&o.shared.LagSamples[i]), atomic.LoadUint64(&o.shared.LagBursts[i])
		atomic.StoreUint32(&o.shared.Lag[i], o.lags[i].learn(samples, bursts, o.c.samplePeriod))
	}
}
