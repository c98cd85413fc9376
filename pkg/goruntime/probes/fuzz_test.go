package probes

import (
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// FuzzCode feeds arbitrary bytes to the search for a site in a function's code.
func FuzzCode(f *testing.F) {
	f.Add([]byte("\x49\x3b\x66\x10\x0f\x86\x00\x01\x00\x00\x55\x48\x89\xe5"), uint64(0x401000))
	f.Add([]byte("\x90\x0b\x40\xf9\xff\x63\x30\xeb\x89\x18\x00\x54\xfe\x0f\x19\xf8"), uint64(0x11000))
	f.Fuzz(func(t *testing.T, code []byte, addr uint64) {
		defer fuzztest.Bound(t, 10*time.Second, len(code))()
		if len(code) > 64<<10 {
			return
		}
		if at, _, _, ok := pickAMD64(code, addr); ok && at >= len(code) {
			t.Errorf("amd64: site at %d of %d bytes", at, len(code))
		}
		if at, _, _, ok := pickARM64(code, addr); ok && at >= len(code) {
			t.Errorf("arm64: site at %d of %d bytes", at, len(code))
		}
	})
}
