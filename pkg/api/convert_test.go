package api

import (
	"strings"
	"testing"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// The numbers and words of states are those of the protocol's enums.
func TestStatesAreThoseOfTheProtocol(t *testing.T) {
	for _, s := range pstate.States() {
		if name, want := pb.PState_name[s.Number()], "P_STATE_"+strings.ToUpper(s.String()); name != want {
			t.Errorf("%v is %s, not %s", s, name, want)
		}
		if back, ok := pstate.StateOf(s.Number()); !ok || back != s {
			t.Errorf("%v does not come back", s)
		}
	}
	for _, s := range pstate.ThreadStates() {
		if name, want := pb.ThreadState_name[s.Number()], "THREAD_STATE_"+strings.ToUpper(s.String()); name != want {
			t.Errorf("%v is %s, not %s", s, name, want)
		}
		if back, ok := pstate.ThreadStateOf(s.Number()); !ok || back != s {
			t.Errorf("%v does not come back", s)
		}
	}
	if len(pb.PState_name) != pstate.NumStates+1 || len(pb.ThreadState_name) != pstate.NumThreadStates+1 {
		t.Error("the protocol has states that have no word")
	}
	for _, number := range []int32{-1, 0, pstate.NumStates + 1} {
		if s, ok := pstate.StateOf(number); ok {
			t.Errorf("%d is %v", number, s)
		}
	}
}
