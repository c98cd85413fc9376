package layout

import (
	"fmt"
	"strings"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
)

//go:generate go run ../../../tools/gen-layouts
//go:generate go run ../../../tools/gen-layouts -experiments

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

// FromTable looks a layout up in the table of Go releases. If the table has none, problem says what is the matter with
// the program. The table goes by release: fixes within a line do move fields now and then (m.allpSnapshot came with
// Go 1.23.12 and 1.24.6).
func FromTable(v binary.Version, arch string) (l *Layout, problem string) {
	switch {
	case !v.Release:
		return nil, fmt.Sprintf("the program was built with a development version of Go 1.%d", v.Minor)
	case v.Minor > binary.NewestMinor:
		return nil, fmt.Sprintf("the program was built with Go 1.%d, which is newer than this version of P-Scope knows",
			v.Minor)
	}
	var moving []string
	for _, x := range strings.Split(v.Experiments, ",") {
		if x != "" && !harmlessExperiments[v.Minor][x] {
			moving = append(moving, x)
		}
	}
	entries := layoutTable[layoutKey{v.Minor, arch, ""}]
	if len(moving) > 0 {
		// Two at once may move more than each alone, and have no entry.
		entries = experimentTable[layoutKey{v.Minor, arch, strings.Join(moving, ",")}]
	}
	for i := len(entries) - 1; i >= 0; i-- {
		if v.Patch >= entries[i].fromPatch {
			l := entries[i].layout
			return &l, ""
		}
	}
	return nil, fmt.Sprintf("the program was built with Go 1.%d for %s and GOEXPERIMENT=%s, "+
		"of which the layout is not known", v.Minor, arch, v.Experiments)
}
