package collector

import (
	"math/rand/v2"
	"testing"
)

func TestLagIsTheMeanOfWhatWasSampled(t *testing.T) {
	const period, truth, bursts = 157_000, 47, 20_000 // ticks: 99 Hz, 3 µs; bursts a second
	var l lag
	var samples, n uint64
	rnd := rand.New(rand.NewPCG(1, 2))
	if got := l.learn(3, 100, period); got != 0 {
		t.Errorf("three samples give a lag of %d ticks, want none yet", got)
	}
	l = lag{}
	var got uint32
	for range 600 { // a minute
		n += bursts / 10
		for range bursts / 10 {
			if rnd.Float64() < truth/float64(period) {
				samples++
			}
		}
		got = l.learn(samples, n, period)
	}
	if got < truth*8/10 || got > truth*12/10 {
		t.Errorf("a lag of %d ticks was learnt as %d", truth, got)
	}
	// It follows a change.
	for range 6000 {
		n += bursts / 10
		got = l.learn(samples, n, period)
	}
	if got > truth/2 {
		t.Errorf("the lag is gone and still %d ticks", got)
	}
}

func TestLagIsBounded(t *testing.T) {
	var l lag
	if got := l.learn(1000, 10, 157_000); got != lagMost {
		t.Errorf("got %d ticks, want %d at most", got, lagMost)
	}
}
