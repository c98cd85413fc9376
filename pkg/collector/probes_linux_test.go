package collector

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
	old, denied := answer{err: fmt.Errorf("link: %w", unix.EINVAL)}, answer{err: fmt.Errorf("open the event: %w", unix.EACCES)}
	for _, c := range []struct {
		name                string
		multi, perf, shared answer
		way                 probeWay
		why, fix            string
	}{
		{"6.10 and later", works, works, works, multiProbes, "", ""},
		{"the same, four capabilities", works, denied, works, multiProbes, "", ""},
		{"6.6 to 6.9, root", firstThreadOnly, works, works, perfProbes, "", ""},
		{"6.6 to 6.9, four capabilities", firstThreadOnly, denied, works, sharedProbes, "", ""},
		{"6.1, root", old, works, old, perfProbes, "", ""},
		{"6.1, four capabilities", old, denied, old, noProbes, "CAP_SYS_ADMIN", "CAP_SYS_ADMIN"},
		{"no uprobes", old, answer{err: ebpf.ErrNotSupported}, old, noProbes, "neither", "CONFIG_UPROBES"},
		{"not permitted", answer{err: unix.EPERM}, denied, answer{err: unix.EPERM}, noProbes, "not permitted", "cap_bpf"},
		{"programs do not run", firstThreadOnly, denied, firstThreadOnly, noProbes, "does not run", ""},
	} {
		way, why := findProbeWay(func(w probeWay) (bool, error) {
			a := map[probeWay]answer{multiProbes: c.multi, perfProbes: c.perf, sharedProbes: c.shared}[w]
			return a.all, a.err
		})
		if way != c.way || (why == nil) != (c.way != noProbes) {
			t.Errorf("%s: %v, %v", c.name, way, why)
			continue
		}
		if why != nil && (!strings.Contains(why.Error(), c.why) || !strings.Contains(fixFor(why), c.fix)) {
			t.Errorf("%s: %q, %q", c.name, why, fixFor(why))
		}
	}
}
