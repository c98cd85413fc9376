//go:build linux

package agent

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// FuzzConfig reads a configuration file. What is accepted must be within the bounds that the flags have.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		"listen: 0.0.0.0:1\nmode: snapshot\nretention: 30d\nretention-size: 512MB\ninclude: ^prom\nsample-hz: " +
			"49\nsocket: null\n",
		"cost-budget: .nan\n", "memory-limit: NaN\n", "interval: 1e9s\nretention: 99999999999y\n",
		"socket-mode: 0o777\n",
		"a: &a [*a, *a]\n", "include: (a{9}){9}\n", "? [a]\n: b\n", "interval-memory: 1e300TiB\n",
	} {
		f.Add([]byte(s))
	}
	path := filepath.Join(f.TempDir(), "pscope.yaml")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		fuzztest.Within(t, fuzztest.Small, len(b), func() {
			c, err := ParseConfig([]string{"--config", path}, io.Discard)
			if err != nil {
				if err.Error() == "" {
					t.Error("refused without a word")
				}
				return
			}
			if !(c.CostBudget >= 0 && c.CostBudget <= 100) || c.MemoryLimit < 0 || c.RetentionSize < 0 ||
				c.IntervalMemory < 1<<20 ||
				c.Interval < 100*time.Millisecond || c.Retention < time.Minute ||
				c.SnapshotEvery < 10*time.Millisecond ||
				c.SocketMode > 0o777 {
				t.Errorf("accepted: %+v", c)
			}
		})
	})
}

// FuzzSize reads a size with a unit.
func FuzzSize(f *testing.F) {
	for _, s := range []string{"0", "512MiB", "2GB", "1.5KiB", "NaN", "-0", "1e18B", "0x1p-2TiB", "Inf", "9e18TB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fuzztest.Within(t, fuzztest.Small, len(text), func() {
			var s, back size
			if s.Set(text) != nil {
				return
			}
			if s < 0 || s > 1<<60 {
				t.Errorf("%q is %d", text, s)
			}
			if err := back.Set(s.String()); err != nil || back != s {
				t.Errorf("%q is %d, which prints as %q and reads as %d (%v)", text, s, s.String(), back, err)
			}
		})
	})
}
