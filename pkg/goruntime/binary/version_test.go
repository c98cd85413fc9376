package binary

import (
	"testing"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

func TestParseVersion(t *testing.T) {
	for in, want := range map[string]Version{
		"go1.26.8":  {Minor: 26, Patch: 8, Release: true},
		"go1.21":    {Minor: 21, Release: true},
		"go1.27rc2": {Minor: 27, Release: true},
		"go1.26.8 X:nogreenteagc,boringcrypto": {Minor: 26, Patch: 8, Release: true,
			Experiments: "nogreenteagc,boringcrypto"},
		"go1.26.8-X:nogreenteagc":         {Minor: 26, Patch: 8, Release: true, Experiments: "nogreenteagc"},
		"go1.28-devel_0123abc-X:simd":     {Minor: 28, Experiments: "simd"},
		"go1.22.9 (Red Hat 1.22.9-2.el9)": {Minor: 22, Patch: 9, Release: true},
		"go1.24.1-1 X:systemcrypto":       {Minor: 24, Patch: 1, Release: true, Experiments: "systemcrypto"},
		"devel go1.28-0123abc Tue Nov 3":  {Minor: 28},
		"go1.28-devel_0123abc Tue Nov 3":  {Minor: 28},
	} {
		if got, ok := ParseVersion(in); !ok || got != want {
			t.Errorf("%q: %+v, want %+v", in, got, want)
		}
	}
	for _, in := range []string{"", "unknown", "go2.1", "go1.", "go1.x", "devel +0123abc", "go1.99999999999999999999"} {
		if got, ok := ParseVersion(in); ok {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

// FuzzVersion reads what a program says of its Go version.
func FuzzVersion(f *testing.F) {
	for _, s := range []string{"go1.26.8", "go1.27rc1 X:nocoverageredesign", "devel go1.28-abc Mon",
		"go1.99999999999999999999", "go1.21.0-X:a,b", "gccgo 12"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fuzztest.Within(t, fuzztest.Small, len(s), func() { _, _ = ParseVersion(s) })
	})
}
