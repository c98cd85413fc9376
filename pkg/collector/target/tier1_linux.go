package target

import (
	"os"

	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/collector/stops"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/lack"
)

// stopProbesOf prepares tier 1 of a target.
func stopProbesOf(o *Target) *stops.Probes {
	why := lack.StopsComing
	if o.env.NoStops {
		why = lack.StopsSwitchedOff
	}
	return stops.New(stops.Config{
		Kernel: o.kernel, Heart: o.env.Heart, Limits: &o.env.Limits, Host: o, Bin: o.bin, PID: o.info.PID,
		Log:    o.env.Log.With("process", o.info.Process, "pid", o.info.PID),
		Shared: o.shared,
	}, lack.NoStops(why))
}

// OpenExecutable opens the file that the process runs, and gives up if it does not answer.
func (o *Target) OpenExecutable() (*os.File, error) {
	o.mu.Lock()
	proc := o.proc
	o.mu.Unlock()
	if proc == nil {
		return nil, refusal.ErrExited
	}
	return kernel.GiveUpAfter(o.env.Limits.Hung, kernel.AnswerWithin, proc.OpenExecutable, func(f *os.File) {
		if f != nil {
			f.Close()
		}
	})
}

// Ended says whether the process, or its observation, has ended.
func (o *Target) Ended() bool { return !o.Alive() }

// StopsChanged brings the description up to date.
func (o *Target) StopsChanged() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.describeLevel()
	}
}
