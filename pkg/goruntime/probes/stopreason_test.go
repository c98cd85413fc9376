package probes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
)

func TestStopReasons(t *testing.T) {
	if got := StopReason("go1.26.8", 1); got != "GC mark termination" {
		t.Errorf("reason 1 = %q", got)
	}
	if got := StopReason("go1.21.0", 200); got != "reason 200" {
		t.Errorf("reason 200 = %q", got)
	}
	if got := StopReason("weird", 1); got != "reason 1" {
		t.Errorf("reason 1 of an unknown version = %q", got)
	}
	fixtures.EachToolchain(t, func(t *testing.T, toolchain string) {
		cmd := exec.Command("go", "env", "GOROOT")
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
		if toolchain != "" {
			cmd.Env = append(os.Environ(), "GOTOOLCHAIN=go"+toolchain)
		}
		root, err := cmd.Output()
		if err != nil {
			t.Skip(err)
		}
		src, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", "runtime", "proc.go"))
		if err != nil {
			t.Fatal(err)
		}
		// The constants are declared with their words as comments: stwGCMarkTerm // "GC mark termination".
		_, rest, _ := strings.Cut(string(src), "stwUnknown ")
		block, _, ok := strings.Cut(rest, "\n)\n")
		if !ok {
			t.Fatal("runtime/proc.go has no stwReason constants")
		}
		lines := strings.Split(block, "\n")
		if len(lines) != len(stopReasons) {
			t.Errorf("%d reasons, want %d", len(lines), len(stopReasons))
		}
		for i, line := range lines {
			_, quoted, _ := strings.Cut(line, `// "`)
			word := strings.TrimSuffix(strings.TrimSpace(quoted), `"`)
			if got := StopReason("go"+fixtures.Toolchains[0], uint8(i)); got != word {
				t.Errorf("reason %d is %q in the runtime, %q here", i, word, got)
			}
		}
	})
}
