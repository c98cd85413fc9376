package fuzztest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// failing is a test that only remembers what it was told.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper()                        {}
func (f *failing) Errorf(format string, a ...any) { f.said = fmt.Sprintf(format, a...) }

func TestWithin(t *testing.T) {
	var f failing
	Within(&f, time.Hour, 1, func() {})
	if f.said != "" {
		t.Error(f.said)
	}
	Within(&f, 50*time.Millisecond, 7, func() {
		for begun := CPUTime(); CPUTime()-begun < 100*time.Millisecond; {
		}
	})
	if !strings.Contains(f.said, "input of 7 bytes") {
		t.Errorf("twice the bound is told as %q", f.said)
	}
}
