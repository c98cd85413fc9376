package collector

import (
	"math/rand/v2"
	"testing"
)

func TestFairShare(t *testing.T) {
	for _, c := range []struct {
		name        string
		total, most float64
		wanted      []float64
		want        float64
	}{
		{"nobody", 100, 50, nil, 50},
		{"one alone has its own budget", 100, 50, []float64{1000}, 50},
		{"there is enough", 100, 50, []float64{10, 20, 30}, 50},
		{"all want too much", 100, 50, []float64{40, 1000, 60, 50}, 25},
		{"the modest leave the rest", 100, 80, []float64{1000, 10, 2000, 0}, 45},
	} {
		if got := fairShare(c.total, c.most, c.wanted); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	// Whatever is wanted, no more than the total is given, and nobody who wants more than another gets less than an
	// equal share.
	for range 1000 {
		wanted := make([]float64, 1+rand.IntN(200))
		for i := range wanted {
			wanted[i] = rand.ExpFloat64() * 500
		}
		const total, most = 10_000, 5000
		share := fairShare(total, most, wanted)
		given := 0.0
		for _, w := range wanted {
			given += min(w, share)
		}
		if given > total*1.000001 || share < min(total/float64(len(wanted)), most)*0.999999 {
			t.Fatalf("a share of %v for %d gives %v", share, len(wanted), given)
		}
	}
}
