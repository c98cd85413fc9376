package ledger

import (
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// Matrix is time in ticks by state and thread state.
type Matrix [pstate.NumStates * pstate.NumThreadStates]uint64

// Ledger turns a P's raw totals into totals that can be exported: split by the samples, never decreasing, and still
// summing to wall time.
type Ledger struct {
	shown   Matrix // as exported last
	shifted [2]uint64
	debt    [2]uint64 // ticks that the samples owe to syscall and gc
	samples [2]uint64 // ticks of syscall and gc samples already turned into debt
}

// The cells the samples move time between.
var (
	onCPUGo = Cell(pstate.Running, pstate.OnCPU)
	onCPUIn = [2]int{
		int(pstate.Syscall)*pstate.NumThreadStates + int(pstate.OnCPU),
		int(pstate.GC)*pstate.NumThreadStates + int(pstate.OnCPU),
	}
)

// Show brings the ledger up to raw, whose sum must not be less than the last one's.
//
// On a CPU, running, syscall and gc can't be told apart between two samples, so the raw totals hold all of it as
// running. Each sample stands for the time between two: those that found a syscall or a GC worker move that much from
// running to there. What the present window can't give stays owed, so that in the long run the shares are those of the
// samples, without bias.
//
// The kernel side corrects itself backwards (rule 3: a P that turns out to have been taken some time ago was not idle
// since), so a raw total that had been counted up to now can shrink. An exported one must not: the excess is taken from
// the others and paid back as they grow.
func (l *Ledger) Show(raw Matrix, samples [2]uint64) *Matrix {
	for i, n := range samples {
		l.debt[i] += n - l.samples[i]
		l.samples[i] = n
	}
	want := raw
	for i := range l.debt {
		moved := l.shifted[0] + l.shifted[1]
		free := uint64(0)
		if raw[onCPUGo] > moved+l.shown[onCPUGo] {
			free = raw[onCPUGo] - moved - l.shown[onCPUGo]
		}
		x := min(l.debt[i], free)
		l.debt[i] -= x
		l.shifted[i] += x
	}
	for i, c := range onCPUIn {
		x := min(l.shifted[i], want[onCPUGo])
		want[onCPUGo] -= x
		want[c] += x
	}
	l.follow(&want)
	return &l.shown
}

// follow moves shown towards want without letting any cell decrease; the sum becomes that of want.
func (l *Ledger) follow(want *Matrix) {
	var over, growth uint64 // how far cells would have to shrink; how much the others grow
	for i, w := range want {
		if w < l.shown[i] {
			over += l.shown[i] - w
		} else {
			growth += w - l.shown[i]
		}
	}
	if over >= growth {
		return // nothing has passed that could be shown yet
	}
	left := growth - over
	var given uint64
	largest, most := -1, uint64(0)
	for i, w := range want {
		if w <= l.shown[i] {
			continue
		}
		g := w - l.shown[i]
		x := uint64(float64(g) * (float64(left) / float64(growth)))
		x = min(x, left-given)
		l.shown[i] += x
		given += x
		if g > most {
			largest, most = i, g
		}
	}
	if largest >= 0 {
		l.shown[largest] += left - given // what rounding left over
	}
}

// Durations is the matrix as a PView has it.
func (m *Matrix) Durations() (d [pstate.NumStates][pstate.NumThreadStates]time.Duration) {
	for i, t := range m {
		d[i/pstate.NumThreadStates][i%pstate.NumThreadStates] = time.Duration(t) * Tick
	}
	return d
}
