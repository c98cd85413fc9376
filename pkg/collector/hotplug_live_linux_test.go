package collector

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/procfs"
)

// The real thing, where the machine may be changed: a guest of one's own. The CPU with the highest number goes offline
// and comes back, and is sampled again.
func TestHotplug(t *testing.T) {
	if os.Getenv("PSCOPE_TEST_HOTPLUG") == "" {
		t.Skip("takes a CPU of the machine offline: set PSCOPE_TEST_HOTPLUG=1 in a virtual machine of your own")
	}
	c, _ := collectIn(t, ModeEBPF, nil)
	k := c.(*collect).kernel
	cpu, err := procfs.PossibleCPUs()
	if err != nil {
		t.Fatal(err)
	}
	cpu--
	switchTo := func(on string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(procfs.SysCPUs, "cpu"+strconv.Itoa(cpu), "online"), []byte(on),
			0); err != nil {
			t.Fatal(err)
		}
	}
	seen := func() uint64 { return k.SamplesOf(cpu) }
	come := func(what string) {
		t.Helper()
		before := seen()
		took := waitFor(t, what, func() bool { return seen() > before+20 })
		t.Logf("%s: within %v", what, took)
	}
	come("samples come at the start")
	for _, away := range []time.Duration{3 * time.Second, 100 * time.Millisecond} {
		switchTo("0")
		time.Sleep(away)
		switchTo("1")
		come("samples come after it was away for " + away.String())
	}
	if a := c.Agent(); len(a.Lacks) > 0 {
		t.Errorf("%+v", a.Lacks)
	}
	t.Log(c.Agent().GlobalLost)
}
