package goruntime

import "fmt"

//go:generate go run ../../tools/gen-layouts

// layoutKey names one release line of the embedded table.
type layoutKey struct {
	minor       int
	arch        string
	experiments string // empty for a plain toolchain
}

// layoutEntry holds from release 1.minor.fromPatch on, until the next entry's.
type layoutEntry struct {
	fromPatch int
	layout    Layout
}

// tableLayout looks a layout up in the table of Go releases. Fixes within a line do move fields now and then (m.allpSnapshot came with Go 1.23.12
// and 1.24.6), which is why the table goes by release.
func tableLayout(v goVersion, arch string) (*Layout, error) {
	switch {
	case !v.plain:
		return nil, fmt.Errorf("the program was built with a development version of Go 1.%d", v.minor)
	case v.minor > NewestMinor:
		return nil, fmt.Errorf("Go 1.%d is newer than this version of P-Scope knows", v.minor)
	}
	entries := layoutTable[layoutKey{v.minor, arch, v.experiments}]
	for i := len(entries) - 1; i >= 0; i-- {
		if v.patch >= entries[i].fromPatch {
			l := entries[i].layout
			return &l, nil
		}
	}
	return nil, fmt.Errorf("no layout is known for Go 1.%d on %s with GOEXPERIMENT=%s", v.minor, arch, v.experiments)
}
