package live

import "testing"

func TestMeanDepthSinceTheRowBefore(t *testing.T) {
	for name, c := range map[string]struct {
		now, before looks
		last        int32
		want        float64
	}{
		"a burst between two rows":  {looks{20, 16}, looks{10, 0}, 0, 1.6},
		"no look since":             {looks{20, 16}, looks{20, 16}, 3, 3},
		"an agent that counts none": {looks{}, looks{}, 5, 5},
		"counted anew":              {looks{5, 2}, looks{20, 16}, 1, 1},
	} {
		if got := c.now.mean(c.before, c.last); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
