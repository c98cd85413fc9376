package goruntime

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/goruntime/internal/fixtures"
	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// TestSearchRefuses has programs whose code does not say enough.
func TestSearchRefuses(t *testing.T) {
	exe := fixtures.Strip(t, fixtures.Program(t, fixtures.Build{}))
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	version := inspectFile(t, exe).GoVersion
	newer := bytes.ReplaceAll(data, []byte(version), []byte(strings.Replace(version, "go1.2", "go1.9", 1)))
	b, err := Inspect(bytes.NewReader(newer))
	if err != nil || b.LayoutSource != pstate.LayoutSearch {
		t.Fatalf("a newer Go: %v", err)
	}
	for name, c := range map[string]struct {
		from, to string
		says     string
	}{
		// Functions that are called something else are not found; one may be missed, two not.
		"one function gone": {"runtime.runqgrab\x00", "runtime.rungqrab\x00", ""},
		"both functions gone": {"runtime.notesleep\x00runtime.notewakeup", "runtime.n0tesleep\x00runtime.notewakeup",
			""},
		"a field without voice": {"runtime.wakep\x00", "runtime.w4kep\x00", ""},
		"two functions gone":    {"runtime.mcommoninit\x00", "runtime.mc0mmoninit\x00", "allm"},
		"no tid":                {"runtime.minit\x00", "runtime.m1nit\x00", "m.procid"},
	} {
		b, err := Inspect(bytes.NewReader(bytes.ReplaceAll(newer, []byte(c.from), []byte(c.to))))
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.says == "":
			if b.LayoutSource != pstate.LayoutSearch {
				t.Errorf("%s: layout from %q", name, b.LayoutSource)
			}
		case err == nil:
			t.Errorf("%s: accepted", name)
		case !errors.Is(err, &refusal.Error{Reason: refusal.GoUnknown}) || !strings.Contains(err.Error(), c.says):
			t.Errorf("%s: %v, which does not name %s", name, err, c.says)
		}
	}
}
