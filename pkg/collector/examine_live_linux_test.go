package collector

import "testing"

// On this kernel, whichever it is, what Examine says of this very process's children is what a collector makes of them.
func TestExaminingSaysWhatIsThenDone(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode Mode) {
		c, _ := collectIn(t, mode, nil)
		p := start(t)
		seen(t, c, p.cmd.Process.Pid)
		found, _, _, _ := Examine(t.Context(), Options{Only: int32(p.cmd.Process.Pid)}, c.Agent())
		if len(found) != 1 {
			t.Fatalf("%d processes found: %+v", len(found), found)
		}
		for _, is := range c.Targets() {
			if is.PID != found[0].PID {
				continue
			}
			if would := found[0].Target; would.Source != is.Source || would.Reason != is.Reason ||
				would.Layout != is.Layout || would.Key != is.Key {
				t.Errorf("examined: %+v\nobserved: %+v", would, is)
			}
		}
	})
}

func TestOnlyOneProcessIsLookedAt(t *testing.T) {
	one, other := start(t), start(t)
	pid := one.cmd.Process.Pid
	c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.Only = int32(pid) })
	seen(t, c, pid)
	one.say("busy 1")
	waitFor(t, "the programs tell of it", func() bool {
		e, ok := EvidenceOf(c, int32(pid))
		return ok &&
			e.Changes > 0 && e.Sampled > 0
	})
	if e, _ := EvidenceOf(c, int32(pid)); len(e.StopProbes) == 0 {
		t.Errorf("no probe: %+v", e)
	}
	for _, target := range c.Targets() {
		if target.PID != int32(pid) {
			t.Errorf("%d is looked at, the other one is %d", target.PID, other.cmd.Process.Pid)
		}
	}
	if _, ok := EvidenceOf(c, int32(other.cmd.Process.Pid)); ok {
		t.Error("there is evidence of a process that is not observed")
	}
}
