//go:build linux

package agent

import (
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// Describe says for a bug report what stands in a configuration file: the settings there are, with their values, and
// what is wrong with it. What could be a secret that was put into the wrong place is left out: comments, settings that
// there are not, paths that are none.
func Describe(path string) string {
	c, err := ParseConfig([]string{"--config", path}, io.Discard)
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: what it sets; comments and what is no setting are left out.\n", path)
	names := make([]string, 0, len(c.lines))
	for name := range c.lines {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return c.lines[a] - c.lines[b] })
	for _, name := range names {
		fmt.Fprintf(&b, "%s: %s\n", name, c.shown(name))
	}
	problems, _ := err.(Problems) // ParseConfig has no other
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

// shown is the value of a setting if it is of the kind that it must be of.
func (c *Config) shown(name string) string {
	value := c.values[name]
	switch name {
	case "token-file", "tls-cert", "tls-key", "tls-client-ca", "socket", "data-dir":
		if value != "" && !filepath.IsAbs(value) {
			return "(left out: no absolute path)"
		}
	case "allow-origins":
		for _, o := range c.AllowOrigins {
			if u, err := url.Parse(o); o != "*" && (err != nil || u.User != nil || u.Host == "" || u.RawQuery != "" ||
				u.Path != "") {
				return "(left out: not only origins)"
			}
		}
	}
	return value
}
