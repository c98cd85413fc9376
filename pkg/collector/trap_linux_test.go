package collector

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"unsafe"
)

// TestCostOfAStart says whether what is measured is right; this, that measuring leaves nothing behind.
func TestTrapIsMeasured(t *testing.T) {
	code := unsafe.Slice((*byte)(unsafe.Pointer(reflect.ValueOf(trapped).Pointer())), 64)
	before := slices.Clone(code)
	c, _ := collectIn(t, ModeEBPF, nil)
	k := c.(*collect).kernel
	waitFor(t, "what a hit of a uprobe costs has been measured", func() bool { return k.trapCosts.Load() > 0 })
	if d := k.trap(); d < leastTrap || d > mostTrap {
		t.Errorf("a hit costs %v", d)
	} else {
		t.Logf("a hit costs %v", d)
	}
	if !bytes.Equal(code, before) {
		t.Errorf("the code was % x and is % x", before, code)
	}
}
