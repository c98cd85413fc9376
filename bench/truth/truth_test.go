package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What the collector shows of a program agrees with the program's own trace, where that takes more than reading a P's
// state: a P that is handed over, one that is lost in a call, many of them on too few CPUs. The bars are those of
// bench/results/truth.md with room for a machine that does other work beside; one try of three has to meet them.
func TestTruth(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("eBPF needs root")
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, fmt.Sprintf("truth-%d", os.Getpid()))
	if err := buildWorkload(bin, true, true); err != nil {
		t.Fatal(err)
	}
	// on a host that is busy besides, a program is observed after seconds only
	s := &setup{bin: bin, dir: dir, runtime: true, run: 2 * time.Second, warm: 6 * time.Second}
	for _, c := range []struct {
		load, procs string
		worst       float64 // of any P, in percentage points of its busy share
	}{
		{"locked", "2", 0.7},          // without the lag of a P handed over 1.4
		{"cgo", "1", 3},               // without the lag of a P lost in a call 5
		{"oversubscribed", "16", 1.5}, // without the rest of the idle list and the wake-ups of threads that leave 2.7
		{"gc", "4", 1},
	} {
		t.Run(c.load+"/"+c.procs, func(t *testing.T) {
			for try := range 3 {
				r, err := s.compare(c.load, c.procs)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("busy %.2f %%, by P-Scope %.2f %%, worst P %.2f points off; %d stops, %d missed, %d with "+
					"another reason; GC stops %d, counted %v; sum off by %.3f %%; lost %v",
					r.Busy, r.BusySeen, r.Worst, r.Stops, r.StopsMissed, r.ReasonsWrong, r.GCStops, r.GCStopsCounted,
					r.SumError, r.Lost)
				worst := r.Worst
				if r.Runtime != nil {
					// Each of them disturbs the program in its own way: what one bears out is true.
					worst = min(worst, r.Runtime.Worst)
					t.Logf("by the runtime's own log: worst P %.2f points off, the trace %.2f", r.Runtime.Worst,
						r.Runtime.TraceMean)
				}
				if worst <= c.worst && r.StopsMissed == 0 && r.ReasonsWrong == 0 && r.countsAgree() &&
					r.SumError < 0.1 {
					return
				}
				if try == 2 {
					t.Error("three times neither what the program's own trace says nor the runtime's log")
				}
			}
		})
	}
}
