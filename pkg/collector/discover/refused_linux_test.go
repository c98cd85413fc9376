package discover

import (
	"testing"

	"github.com/p-scope/p-scope/pkg/goruntime"
)

func TestWhatIsRefusedHasAFix(t *testing.T) {
	for _, r := range []goruntime.Reason{goruntime.ReasonGoTooOld, goruntime.ReasonGoUnknown, goruntime.ReasonMemory, goruntime.ReasonNoVariables, goruntime.ReasonArch,
		goruntime.ReasonUnreadable, goruntime.ReasonNoPrivilege} {
		if FixForRefused(&goruntime.RefusedError{Reason: r}) == "" {
			t.Errorf("%s has none", r)
		}
	}
}
