package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// binaries are what is shipped, with the platforms it is built for (Magefile.go and Grafana's SDK).
var binaries = []struct {
	name, pkg string
	platforms []string
}{
	{"pscope", "./pkg/cmd/pscope", []string{"linux/amd64", "linux/arm64"}},
	{"gpx_pscope", "./pkg", []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64"}},
}

// goModules gives every module of which a package is linked into a binary, and Go's own library.
func goModules() ([]*part, error) {
	found := map[string]*part{}
	for _, b := range binaries {
		for _, platform := range b.platforms {
			if err := linked(found, b.name, b.pkg, platform); err != nil {
				return nil, err
			}
		}
	}
	root, err := output(nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	version, err := output(nil, "go", "list", "-m", "-f", "{{.GoVersion}}")
	if err != nil {
		return nil, err
	}
	files, err := texts(root)
	if err != nil {
		return nil, err
	}
	// Whichever Go it is built with: the list would else change with each machine.
	std := &part{name: "Go's standard library and runtime", version: "from " + version,
		where: []string{"gpx_pscope", "pscope"}}
	std.take(files)
	all := slices.SortedFunc(maps.Values(found), func(a, b *part) int { return cmp.Compare(a.name, b.name) })
	return append([]*part{std}, all...), nil
}

// linked adds the modules of one binary for one platform.
func linked(found map[string]*part, binary, pkg, platform string) error {
	system, arch, _ := strings.Cut(platform, "/")
	env := append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0")
	out, err := output(env, "go", "list", "-deps", "-f", "{{with .Module}}{{if not "+
		".Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}\t{{$.Dir}}{{end}}{{end}}", pkg)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 4 {
			continue
		}
		p := found[f[0]]
		if p == nil {
			p = &part{name: f[0], version: f[1]}
			found[f[0]] = p
		}
		if !slices.Contains(p.where, binary) {
			p.where = append(p.where, binary)
			slices.Sort(p.where)
		}
		// A package may have a licence of its own below that of its module.
		for dir := f[3]; strings.HasPrefix(dir, f[2]); dir = filepath.Dir(dir) {
			files, err := texts(dir)
			if err != nil {
				return err
			}
			p.take(files)
		}
	}
	return nil
}

// take adds licence files to a part. Notices and patent grants are shipped; the licence is what the others say.
func (p *part) take(files map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := files[name]
		if slices.Contains(p.texts, text) {
			continue
		}
		p.texts = append(p.texts, text)
		if upper := strings.ToUpper(name); strings.HasPrefix(upper, "NOTICE") || strings.HasPrefix(upper, "PATENTS") {
			continue
		}
		if m := identifier.FindStringSubmatch(text); m != nil {
			p.add(choose(m[1])...)
			continue
		}
		for _, m := range licensecheck.Scan([]byte(text)).Match {
			if !m.IsURL {
				p.add(m.ID)
			}
		}
	}
	slices.Sort(p.texts) // the order in which packages come differs between platforms
}

// identifier is the first line of a licence file that says which of the texts below it may be chosen.
var identifier = regexp.MustCompile(`^\W*SPDX-License-Identifier: *([\w.() -]+?)\W*\n`)

// add notes licences, once each.
func (p *part) add(licences ...string) {
	for _, l := range licences {
		if !slices.Contains(p.licences, l) {
			p.licences = append(p.licences, l)
		}
	}
	slices.Sort(p.licences)
}

func output(env []string, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Env, c.Stderr = env, os.Stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
