//go:build linux

package history

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/confine"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/store"
)

// Measures are what the present child gave up; nil: none runs, or it was not asked to.
func (s *Supervisor) Measures() []confine.Measure {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil {
		return nil
	}
	return s.child.measures
}

// Losses counts samples that did not reach the history, by reason.
func (s *Supervisor) Losses() map[string]uint64 {
	_, dropped := s.queue.state()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := maps.Clone(s.losses)
	if s.child != nil {
		for reason, n := range s.child.last.Losses {
			out[reason] += n
		}
	}
	if dropped > 0 {
		out[loss.HistoryBehind] += dropped
	}
	return out
}

// Folded counts the messages that the children did not log one by one.
func (s *Supervisor) Folded() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil {
		return s.folded
	}
	return s.folded + s.child.last.Folded
}

// Self gives what the child uses of the machine, by metric name.
func (s *Supervisor) Self() map[string]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]float64{"pscope_history_restarts_total": float64(s.restarts), "pscope_history_up": 0}
	cpu, steps := s.lastCPU, s.steps
	if s.child != nil {
		cpu += s.child.last.CPU
		steps += s.child.last.ClockSteps
		out["pscope_history_resident_memory_bytes"] = s.child.last.Resident
		if writes(&s.child.last) {
			out["pscope_history_up"] = 1
		}
	}
	out["pscope_history_cpu_seconds_total"], out["pscope_history_clock_steps_total"] = cpu, float64(steps)
	return out
}

// Conditions says what is wrong with the history now, and what the user does about it.
func (s *Supervisor) Conditions() []store.Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.child
	switch {
	case c == nil:
		return []store.Condition{{What: "history", Why: "the process that keeps it is not running: " + s.why,
			Fix: "it is started again by itself; the agent's log says what ended it"}}
	case !c.waiting.IsZero() && time.Since(c.waiting) > slowAfter:
		return append([]store.Condition{{What: "history",
			Why: fmt.Sprintf("its process has not written anything for %d s", int(time.Since(c.waiting).Seconds())),
			Fix: "see whether the disk of --data-dir (" + s.opts.Store.Dir + ") answers"}}, c.last.Conditions...)
	}
	out := slices.Clone(c.last.Conditions)
	stepped := func(c store.Condition) bool { return c.What == store.ClockStepped }
	if !s.stepAt.IsZero() && time.Since(s.stepAt) < stepShown && !slices.ContainsFunc(out, stepped) {
		out = append(out, s.stepped)
	}
	return out
}

// stepShown is how long a step of the clock is shown after the child that met it was replaced.
const stepShown = time.Hour

// writes says whether a child that reports this writes and answers.
func writes(r *report) bool {
	return r.Open && !slices.ContainsFunc(r.Conditions,
		func(c store.Condition) bool { return c.What != store.ClockStepped && c.What != store.Damaged })
}
