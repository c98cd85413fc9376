package kern

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
)

func TestProgramsPassTheVerifier(t *testing.T) {
	var objs ScopeObjects
	err := LoadScopeObjects(&objs, nil)
	var ve *ebpf.VerifierError
	if errors.As(err, &ve) {
		t.Fatalf("%+v", ve)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer objs.Close()
	for name, p := range map[string]*ebpf.Program{"sched_switch": objs.SchedSwitch, "sched_waking": objs.SchedWaking,
		"sample": objs.Sample, "stop_world": objs.StopWorld, "start_world": objs.StartWorld,
		"world_started": objs.WorldStarted, "exec": objs.Exec, "execute": objs.Execute} {
		i, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		n, ok := i.VerifiedInstructions()
		t.Log(name, n, ok)
	}
}
