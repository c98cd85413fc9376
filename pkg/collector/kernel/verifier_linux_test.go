package kernel

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// A kernel gives up after a million instructions, and other kernels than the one at hand follow more paths: each
// program must stay far below.
func TestProgramsAreEasyToVerify(t *testing.T) {
	spec, err := kern.LoadScope()
	if err != nil {
		t.Fatal(err)
	}
	objs, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer objs.Close()
	for name, p := range objs.Programs {
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		n, ok := info.VerifiedInstructions()
		if !ok {
			t.Skip("this kernel does not tell")
		}
		t.Logf("%s: %d", name, n)
		if n > 80_000 {
			t.Errorf("%s: the verifier followed %d instructions", name, n)
		}
	}
}
