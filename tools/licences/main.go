// Command licences lists what others wrote that is linked into the binaries or bundled into the frontend:
// THIRD_PARTY.md says what and under which licence, THIRD_PARTY_NOTICES.txt has the texts, which ship with every
// binary.
//
//	npm run build && go run ./tools/licences -write   makes both anew
//	npm run build && go run ./tools/licences          fails if they are not current, or a licence is not allowed
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The files that are made.
const (
	listFile    = "THIRD_PARTY.md"
	noticesFile = "THIRD_PARTY_NOTICES.txt"
)

// part is something that others wrote: a Go module, or a package of npm.
type part struct {
	name, version string
	where         []string // what it is in: pscope, gpx_pscope or module.js
	licences      []string // SPDX identifiers
	texts         []string // of its licence and notice files
}

func main() {
	write := flag.Bool("write", false, "write both files instead of comparing them")
	dist := flag.String("dist", "dist", "`directory` of a built frontend, with source maps")
	flag.Parse()
	if err := run(*dist, *write); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

func run(dist string, write bool) error {
	modules, err := goModules()
	if err != nil {
		return err
	}
	packages, err := npmPackages(dist)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range slices.Concat(modules, packages) {
		errs = append(errs, p.check())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for name, text := range map[string]string{listFile: list(modules, packages),
		noticesFile: notices(slices.Concat(modules, packages))} {
		if write {
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				return err
			}
			continue
		}
		if old, err := os.ReadFile(name); err != nil || string(old) != text {
			errs = append(errs, fmt.Errorf("%s is not current (%s); run \"npm run build && go run ./tools/licences "+
				"-write\" "+
				"and commit it", name,
				firstDifference(string(old), text)))
		}
	}
	return errors.Join(errs...)
}

// allowed are licences whose terms let a program under Apache-2.0 contain what is under them
// (https://www.apache.org/legal/resolved.html, categories A and, for MPL-2.0, B: unchanged, with the text and the place
// of the source).
var allowed = []string{"Apache-2.0", "MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD", "Zlib",
	"Unlicense", "CC0-1.0", "BSL-1.0",
	"Unicode-DFS-2016", "Unicode-3.0", "BlueOak-1.0.0", "MPL-2.0", "PostgreSQL"}

// choose reads an SPDX expression: of "A OR B" the first that is allowed counts, of "A AND B" both.
func choose(expression string) (licences []string) {
	for _, l := range strings.Split(strings.Trim(strings.TrimSpace(expression), "()"), " AND ") {
		choices := strings.Split(strings.Trim(l, "()"), " OR ")
		if i := slices.IndexFunc(choices, func(c string) bool { return slices.Contains(allowed, c) }); i >= 0 {
			l = choices[i]
		}
		licences = append(licences, strings.TrimSpace(l))
	}
	return licences
}

// check says why a part may not be there.
func (p *part) check() error {
	if len(p.licences) == 0 {
		return fmt.Errorf("%s %s: its licence is not known; look at it, and leave it out unless it is compatible with "+
			"Apache-2.0", p.name, p.version)
	}
	for _, l := range p.licences {
		if !slices.Contains(allowed, l) {
			return fmt.Errorf("%s %s is under %s, which is not among the licences that are compatible with Apache-2.0 "+
				"(tools/licences, allowed)", p.name,
				p.version, l)
		}
	}
	if len(p.texts) == 0 {
		return fmt.Errorf("%s %s has no text of its licence, which must ship with it", p.name, p.version)
	}
	return nil
}

func list(modules, packages []*part) string {
	var t strings.Builder
	t.WriteString("# What others wrote\n\nLinked into the binaries or bundled into the frontend. Made by `go run " +
		"./tools/licences -write`, which fails where a licence is\n" +
		"not compatible with Apache-2.0. The texts are in [" + noticesFile + "](" + noticesFile +
		"), which ships with " +
		"the binaries. What is under MPL-2.0 is\n" +
		"unchanged; its source is the module of that name and version.\n")
	for _, section := range []struct {
		title string
		parts []*part
	}{{"Go modules", modules}, {"npm packages", packages}} {
		fmt.Fprintf(&t, "\n## %s\n\n| name | version | licence | in |\n| --- | --- | --- | --- |\n", section.title)
		for _, p := range section.parts {
			fmt.Fprintf(&t, "| %s | %s | %s | %s |\n", p.name, p.version, strings.Join(p.licences, ", "),
				strings.Join(p.where, ", "))
		}
	}
	return t.String()
}

// notices has each text once, below the names of those that have it.
func notices(parts []*part) string {
	var order []string
	of := map[string][]string{}
	for _, p := range parts {
		for _, text := range p.texts {
			if of[text] == nil {
				order = append(order, text)
			}
			name := p.name + " " + p.version
			if !slices.Contains(of[text], name) {
				of[text] = append(of[text], name)
			}
		}
	}
	var t strings.Builder
	t.WriteString("P-Scope contains software of others, under these terms.\n")
	for _, text := range order {
		fmt.Fprintf(&t, "\n%s\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(of[text], "\n"),
			strings.Repeat("-", 80), text)
	}
	return t.String()
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range max(len(x), len(y)) {
		switch {
		case i >= len(x):
			return fmt.Sprintf("line %d is new: %.100s", i+1, y[i])
		case i >= len(y):
			return fmt.Sprintf("line %d is too much: %.100s", i+1, x[i])
		case x[i] != y[i]:
			return fmt.Sprintf("line %d is %.100q, should be %.100q", i+1, x[i], y[i])
		}
	}
	return "no difference"
}

// texts reads the licence and notice files of a directory.
func texts(dir string) (files map[string]string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files = map[string]string{}
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || strings.HasSuffix(name, ".GO") || strings.HasSuffix(name, ".JS") {
			continue
		}
		for _, prefix := range []string{"LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "PATENTS",
			"UNLICENSE"} {
			if strings.HasPrefix(name, prefix) {
				text, err := os.ReadFile(filepath.Join(dir, e.Name()))
				if err != nil {
					return nil, err
				}
				files[e.Name()] = strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n"))
				break
			}
		}
	}
	return files, nil
}
