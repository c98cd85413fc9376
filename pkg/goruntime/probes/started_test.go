package probes

import (
	"encoding/binary"
	"strings"
	"testing"
)

func TestStartedOnARM64(t *testing.T) {
	words := func(w ...uint32) (code []byte) {
		for _, x := range w {
			code = binary.LittleEndian.AppendUint32(code, x)
		}
		return code
	}
	// runtime.execute of Go 1.26.8, behind the stack check: frame, spilled arguments, g.m, and ADRP for
	// goroutineProfile.
	execute := []uint32{
		0xf81b0ffe, 0xf81f83fd, 0xd10023fd, 0xf9002fe0, 0x390183e1, 0xf9401b85, 0xf90023e5, 0xf00006fb, 0x39621366,
		0x36000146,
	}
	at, text, ok := firstEmulatedARM64(words(execute...), 0x5555c)
	if !ok || at != 28 || !strings.HasPrefix(text, "ADRP") {
		t.Errorf("at %d: %q, %v", at, text, ok)
	}
	for what, code := range map[string][]byte{
		"R0 is overwritten":        words(0xf81b0ffe, 0xf9401b80, 0xf00006fb), // MOVD 48(R28), R0
		"R0 is moved":              words(0xf81b0ffe, 0xf8008c01, 0xf00006fb), // MOVD.W R1, 8(R0)
		"no more code":             words(0xf81b0ffe, 0xf81f83fd),
		"an instruction not known": words(0xf81b0ffe, 0xc85f7c00, 0xf00006fb), // LDXR
		"not an instruction":       words(0xf81b0ffe, 0, 0xf00006fb),
	} {
		if at, text, ok := firstEmulatedARM64(code, 0); ok {
			t.Errorf("%s: at %d: %q", what, at, text)
		}
	}
}
