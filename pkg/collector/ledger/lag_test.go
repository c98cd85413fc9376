package ledger

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

func TestLagIsTheMeanOfWhatWasSampled(t *testing.T) {
	const bursts = 20_000 // a second
	const since, truth = 100 * time.Millisecond, uint64(47)
	for _, period := range []time.Duration{time.Second / 99, time.Second / 997} {
		l := newLag()
		var ticks, n uint64
		rnd := rand.New(rand.NewPCG(1, 2))
		if got := l.Learn(0, 0, period, since); float64(got) > lagPrior || float64(got) < lagPrior-1 {
			t.Errorf("at first the lag is %d ticks, want %.1f", got, lagPrior)
		}
		var got uint32
		for range 600 { // a minute
			n += bursts / 10
			for range bursts / 10 {
				if rnd.Float64() < float64(truth)/float64(period/Tick) {
					ticks += uint64(period / Tick)
				}
			}
			got = l.Learn(ticks, n, period, since)
		}
		if got < uint32(truth*8/10) || got > uint32(truth*12/10) {
			t.Errorf("every %v: a lag of %d ticks was learnt as %d", period, truth, got)
		}
		if l.WantsSamples {
			t.Errorf("every %v: more is wanted after a minute", period)
		}
		// It follows a change.
		for range 12000 {
			n += bursts / 10
			got = l.Learn(ticks, n, period, since)
		}
		if got > uint32(truth/2) {
			t.Errorf("every %v: the lag is gone and still %d ticks", period, got)
		}
	}
}

func TestLagIsBounded(t *testing.T) {
	l := newLag()
	if got := l.Learn(1e9, 10, time.Second/99, time.Second); got != uint32(maxLag) {
		t.Errorf("got %d ticks, want %v at most", got, maxLag)
	}
}

// A call in which a P was lost may take long, and where few do, each tells at once.
func TestTheLagOfALostPIsThatOfTheCall(t *testing.T) {
	l := NewLags()[kern.ScopeLagLAG_LOST]
	const call, calls = 2 * time.Millisecond, 500
	want := float64(call / Tick)
	if got := float64(l.Learn(uint64(want)*calls, calls, time.Second/99, time.Second)); got < want*0.9 || got > want {
		t.Errorf("calls of %v: a lag of %.0f ticks, want %.0f", call, got, want)
	}
	if got := l.Learn(1e12, 2*calls, time.Second/99, time.Second); got != maxLagLost {
		t.Errorf("got %d ticks, want %d at most", got, maxLagLost)
	}
}

func TestLagIsWantedWhereItMatters(t *testing.T) {
	l := newLag()
	if l.Learn(0, 10, time.Second/99, time.Second); l.WantsSamples {
		t.Error("more samples for ten bursts a second")
	}
	if l.Learn(0, 1000, time.Second/99, time.Second); !l.WantsSamples {
		t.Error("no more samples for a thousand bursts a second of which nothing is known")
	}
}
