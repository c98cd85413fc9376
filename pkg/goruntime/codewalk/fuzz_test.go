package codewalk

import (
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// FuzzCode feeds arbitrary bytes to the decoders.
func FuzzCode(f *testing.F) {
	f.Add([]byte("\x49\x3b\x66\x10\x0f\x86\x00\x01\x00\x00\x55\x48\x89\xe5"), uint64(0x401000))
	f.Add([]byte("\x90\x0b\x40\xf9\xff\x63\x30\xeb\x89\x18\x00\x54\xfe\x0f\x19\xf8"), uint64(0x11000))
	f.Add([]byte("\x64\x48\x89\x14\x25\xe0\xff\xff\xff"), uint64(0x401000))
	f.Fuzz(func(t *testing.T, code []byte, addr uint64) {
		defer fuzztest.Bound(t, 10*time.Second, len(code))()
		if len(code) > 64<<10 {
			return
		}
		for _, arch := range []string{"amd64", "arm64"} {
			globalRefs(arch, code, addr)
		}
		tlsUseAMD64(code, addr)
		tlsUseARM64(code, addr)
	})
}

// FuzzWalk feeds arbitrary bytes to the walk through a function's code: it must end, and note nothing beyond its
// bounds.
func FuzzWalk(f *testing.F) {
	// MOVQ 48(R14), AX; MOVQ BX, 208(AX); RET
	f.Add([]byte("\x49\x8b\x46\x30\x48\x89\x98\xd0\x00\x00\x00\xc3"), uint64(0x401000))
	// a loop that moves the stack pointer
	f.Add([]byte("\x48\x81\xec\x00\x01\x00\x00\x48\x89\x04\x24\xeb\xf3"), uint64(0x401000))
	// jumps only
	f.Add([]byte("\x74\xfe\x75\xfc\x74\xfa\xeb\xf8"), uint64(0x401000))
	// CMPXCHG, INC, CALL
	f.Add([]byte("\xf0\x0f\xb1\x98\x90\x00\x00\x00\xff\x44\x88\x10\xe8\x00\x00\x00\x00"), uint64(0x401000))
	// MOVD 48(R28), R1; MOVD R0, 208(R2); RET
	f.Add([]byte("\x81\x1b\x40\xf9\x40\x68\x00\xf9\xc0\x03\x5f\xd6"), uint64(0x11000))
	// a loop that moves the stack pointer
	f.Add([]byte("\xff\xc3\x04\xd1\xe0\x03\x00\xf9\xfe\xff\xff\x17"), uint64(0x11000))
	// LDAXR, ADD, STLXR, CBNZ
	f.Add([]byte("\x45\xfc\x5f\x88\xa5\x04\x00\x11\x45\xfc\x1b\x88\xbb\xff\xff\xb5"), uint64(0x11000))
	f.Fuzz(func(t *testing.T, code []byte, addr uint64) {
		if len(code) > maxCode {
			return
		}
		odd := func(callee uint64) bool { return callee&1 == 1 }
		for _, arch := range []string{"amd64", "arm64"} {
			begin := time.Now()
			facts, _ := walkCode(arch, code, addr, odd, odd)
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("%s: took %v", arch, took)
			}
			if len(facts) > maxFacts+8 {
				t.Errorf("%s: %d facts", arch, len(facts))
			}
			for _, x := range facts {
				for _, v := range []value{x.addr, x.val, x.old} {
					if v.depth < 0 || v.depth > maxDeref || v.off < -binary.MaxTypeSize || v.off > binary.MaxTypeSize {
						t.Errorf("%s: %+v", arch, v)
					}
				}
			}
		}
	})
}
