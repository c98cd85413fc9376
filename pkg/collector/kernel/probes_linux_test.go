package kernel

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// What a kernel may answer when a way is tried.
type answer struct {
	all bool
	err error
}

func TestWayOfProbes(t *testing.T) {
	works, firstThreadOnly := answer{all: true}, answer{}
	old, denied := answer{err: fmt.Errorf("link: %w", unix.EINVAL)},
		answer{err: fmt.Errorf("open the event: %w", unix.EACCES)}
	for _, c := range []struct {
		name                string
		multi, perf, shared answer
		way                 ProbeWay
		why, fix            string
	}{
		{"6.10 and later", works, works, works, MultiProbes, "", ""},
		{"the same, four capabilities", works, denied, works, MultiProbes, "", ""},
		{"6.6 to 6.9, root", firstThreadOnly, works, works, PerfProbes, "", ""},
		{"6.6 to 6.9, four capabilities", firstThreadOnly, denied, works, SharedProbes, "", ""},
		{"6.1, root", old, works, old, PerfProbes, "", ""},
		{"6.1, four capabilities", old, denied, old, NoProbes, "CAP_SYS_ADMIN", "CAP_SYS_ADMIN"},
		{"no uprobes", old, answer{err: ebpf.ErrNotSupported}, old, NoProbes, "neither", "CONFIG_UPROBES"},
		{"not permitted", answer{err: unix.EPERM}, denied, answer{err: unix.EPERM}, NoProbes, "not permitted",
			"cap_bpf"},
		{"programs do not run", firstThreadOnly, denied, firstThreadOnly, NoProbes, "does not run", ""},
	} {
		way, why := findProbeWay(func(w ProbeWay) (bool, error) {
			a := map[ProbeWay]answer{MultiProbes: c.multi, PerfProbes: c.perf, SharedProbes: c.shared}[w]
			return a.all, a.err
		})
		if way != c.way || (why == nil) != (c.way != NoProbes) {
			t.Errorf("%s: %v, %v", c.name, way, why)
			continue
		}
		if why != nil && (!strings.Contains(why.Error(), c.why) || !strings.Contains(FixFor(why), c.fix)) {
			t.Errorf("%s: %q, %q", c.name, why, FixFor(why))
		}
	}
}
