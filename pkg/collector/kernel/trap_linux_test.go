package kernel

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
	k, err := load(defaultKernelOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if k.TrapMeasured() || k.TrapCost() != usualTrap {
		t.Errorf("a hit costs %v before that has been measured", k.TrapCost())
	}
	if err := k.MeasureTrap(); err != nil {
		t.Fatal(err)
	}
	if d := k.TrapCost(); !k.TrapMeasured() || d < minTrap || d > maxTrap {
		t.Errorf("a hit costs %v", d)
	} else {
		t.Logf("a hit costs %v", d)
	}
	if !bytes.Equal(code, before) {
		t.Errorf("the code was % x and is % x", before, code)
	}
}
