//go:build linux

package agent

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Describe says for a bug report what stands in a configuration file: the settings there are, with their values, and
// what is wrong with it. What could be a secret that was put into the wrong place is left out: comments, settings that
// there are not, values of settings that are wrong or of another kind than they must be.
func Describe(path string) string {
	c, err := ParseConfig([]string{"--config", path}, io.Discard)
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: what it sets; comments and what is no setting are left out.\n", path)
	names := make([]string, 0, len(c.lines))
	for name := range c.lines {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return c.lines[a] - c.lines[b] })
	problems, _ := err.(Problems) // ParseConfig has no other
	wrong := map[string]bool{}
	for _, p := range problems {
		wrong[p.Setting] = true
	}
	for _, name := range names {
		value, why := c.shown(name)
		if wrong[name] {
			why = "see below"
		}
		if why != "" {
			value = "(left out: " + why + ")"
		}
		fmt.Fprintf(&b, "%s: %s\n", name, value)
	}
	for _, p := range problems {
		// Values that can't be read are not repeated: nobody knows what they are.
		what := "no YAML, or it can't be read"
		if p.Setting != "" {
			what = "a setting that there is not"
			if _, known := c.values[p.Setting]; known {
				what = p.Setting + " can't be what it is"
			}
		}
		fmt.Fprintf(&b, "# line %d: %s\n", p.Line, what)
	}
	return b.String()
}
