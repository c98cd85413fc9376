//go:build linux

package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A value that stands at the wrong place may be a secret, for example the token itself as token-file. So values of
// settings that are not of the kind that they must be of are told on a terminal only: logs, answers of the agent and
// bundles for bug reports go to others.

// shown is the value of a setting, if it is of the kind that it must be of and so is no secret; else why it is left
// out.
func (c *Config) shown(name string) (value, why string) {
	value = c.values[name]
	if value == "" {
		return value, ""
	}
	switch name {
	case "token-file", "tls-cert", "tls-key", "tls-client-ca":
		switch {
		case !filepath.IsAbs(value):
			return "", "no absolute path"
		case !exists(value):
			return "", "no file that there is"
		}
	case "socket", "data-dir":
		switch {
		case !filepath.IsAbs(value):
			return "", "no absolute path"
		case value != c.defaults[name] && nearest(value) == "/":
			return "", "no part of the path exists"
		}
	case "listen":
		_, port, err := net.SplitHostPort(value)
		if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
			return "", "not of the form host:port"
		}
	case "socket-group":
		if _, err := user.LookupGroup(value); err != nil {
			return "", "no group that there is"
		}
	case "host":
		if !hostName.MatchString(value) {
			return "", "no host name"
		}
	case "allow-origins":
		for _, o := range c.AllowOrigins {
			if !isOrigin(o) {
				return "", "not only origins"
			}
		}
	}
	return value, ""
}

var hostName = regexp.MustCompile(`^[\pL\pN._-]{1,253}$`)

func isOrigin(o string) bool {
	u, err := url.Parse(o)
	return o == "*" || err == nil && u.User == nil && u.Host != "" && u.RawQuery == "" && u.Path == ""
}

// exists says whether a file is there, as far as one may look.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil || errors.Is(err, fs.ErrPermission)
}

// nearest is the longest part of an absolute path that exists.
func nearest(path string) string {
	for path = filepath.Clean(path); path != "/" && !exists(path); {
		path = filepath.Dir(path)
	}
	return path
}

// shortestSecret is the length below which a value is none; so short ones would be found in every text.
const shortestSecret = 4

// withhold finds the values that are no settings of their kind, for withoutValues.
func (c *Config) withhold() {
	replaced := map[string]string{}
	for name, value := range c.values {
		if _, why := c.shown(name); why == "" {
			continue
		}
		forms := []string{value}
		switch name {
		case "allow-origins":
			forms = append(forms, slices.DeleteFunc(slices.Clone(c.AllowOrigins), isOrigin)...)
		case "token-file", "tls-cert", "tls-key", "tls-client-ca", "socket", "data-dir":
			if exists(value) {
				continue
			}
			// An error may name the folder that can't be made.
			for at := filepath.Clean(value); len(at) >= shortestSecret; at = filepath.Dir(at) {
				forms = append(forms, at)
			}
		}
		for _, f := range forms {
			// Errors quote values, and the log quotes errors.
			for range 3 {
				if len(f) >= shortestSecret {
					replaced[f] = "(the value of " + name + ")"
				}
				quoted := strconv.Quote(f)
				f = quoted[1 : len(quoted)-1]
			}
		}
	}
	if len(replaced) == 0 {
		return
	}
	var pairs []string
	for _, f := range slices.SortedFunc(maps.Keys(replaced), func(a, b string) int {
		return cmp.Or(len(b)-len(a), strings.Compare(a, b))
	}) {
		pairs = append(pairs, f, replaced[f])
	}
	c.withheld = strings.NewReplacer(pairs...)
}

// withoutValues is a text without the values that may be secrets.
func (c *Config) withoutValues(text string) string {
	if c.withheld == nil {
		return text
	}
	return c.withheld.Replace(text)
}

// cleaned is where a log may be written to.
func (c *Config) cleaned(w io.Writer) io.Writer {
	if c.withheld == nil {
		return w
	}
	return cleaner{c, w}
}

type cleaner struct {
	c *Config
	w io.Writer
}

func (w cleaner) Write(b []byte) (int, error) {
	if _, err := io.WriteString(w.w, w.c.withoutValues(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// known is an argument of a problem's text that is no value of a setting.
type known string

// remedy is an error that says how a value is written, and not what it is.
type remedy string

func (r remedy) Error() string { return string(r) }

var (
	verb        = regexp.MustCompile(`%[-+# 0]*[a-zA-Z%]`)
	badFlag     = regexp.MustCompile(`(?s)^invalid (?:boolean )?value .* for (?:flag )?-([a-z-]+): `)
	needsAValue = regexp.MustCompile(`^flag needs an argument: -[a-z-]+$`)
)

// withoutArguments is a text without what may be the value of a setting.
func withoutArguments(format string, args []any) string {
	i := -1
	text := verb.ReplaceAllStringFunc(format, func(found string) string {
		if found == "%%" {
			return "%"
		}
		i++
		if i >= len(args) {
			return found
		}
		switch a := args[i].(type) {
		case known:
			return string(a)
		case error:
			return withoutValue(a)
		}
		return "…"
	})
	text = strings.TrimSuffix(text, ": …")
	if setting, ok := strings.CutSuffix(text, " is …"); ok {
		return setting + " can't be what it is"
	}
	return text
}

// withoutValue is what an error about a value says besides it.
func withoutValue(err error) string {
	var r remedy
	if errors.As(err, &r) && r.Error() == err.Error() {
		return r.Error()
	}
	text := err.Error()
	if m := badFlag.FindStringSubmatch(text); m != nil {
		return "the value of --" + m[1] + " can't be used"
	}
	if needsAValue.MatchString(text) {
		return text
	}
	if strings.HasPrefix(text, "flag provided but not defined: ") {
		return "there is no such flag"
	}
	return "…"
}

// unlessTerminal is an error as it may be told where others read it, for example in the journal. On a terminal it is
// told whole.
func unlessTerminal(err error, clean func() error) error {
	if _, bad := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); bad == nil {
		return err
	}
	without := clean()
	if without.Error() == err.Error() {
		return err
	}
	return fmt.Errorf("%w\nvalues are left out here: 'pscope agent --check' with the same flags shows them", without)
}
