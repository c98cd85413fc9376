package collector

import (
	"testing"
	"time"
)

// Looks at queues come past every phase of a program's rhythm: a burst of 30 ms that recurs each second, at any phase,
// is seen in three of a hundred looks, and so is one that recurs at the rhythm of the looks.
func TestLooksFollowNoRhythm(t *testing.T) {
	const every, burst, seconds = 100 * time.Millisecond, 30 * time.Millisecond, 2000
	for _, rhythm := range []time.Duration{time.Second, every, 250 * time.Millisecond} {
		seen := make([]int, 10) // by the phase of the burst
		looks := 0
		for at := time.Duration(0); at < seconds*time.Second; at += every + wander(every) {
			looks++
			for phase := range seen {
				if begins := rhythm * time.Duration(phase) / time.Duration(len(seen)); (at-begins+
					rhythm)%rhythm < burst {
					seen[phase]++
				}
			}
		}
		if looks < seconds*10*95/100 || looks > seconds*10*105/100 {
			t.Errorf("%d looks in %d s", looks, seconds)
		}
		for phase, n := range seen {
			want := float64(looks) * float64(burst) / float64(rhythm)
			if float64(n) < 0.7*want || float64(n) > 1.3*want {
				t.Errorf("every %v, phase %d: the burst is in %d looks, want %.0f", rhythm, phase, n, want)
			}
		}
	}
}
