package discover

import (
	"testing"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

func TestWhatIsRefusedHasAFix(t *testing.T) {
	for _, r := range []refusal.Reason{refusal.GoTooOld, refusal.GoUnknown, refusal.Memory, refusal.NoVariables,
		refusal.Arch,
		refusal.Unreadable, refusal.NoPrivilege} {
		if FixForRefused(&refusal.Error{Reason: r}) == "" {
			t.Errorf("%s has none", r)
		}
	}
}
