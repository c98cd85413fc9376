package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// npmPackages gives every package of npm of which a file is in the bundle, as its source maps name them.
func npmPackages(dist string) ([]*part, error) {
	files, err := filepath.Glob(filepath.Join(dist, "*.js.map"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no source map, so that what is bundled is not known: run \"npm run build\" "+
			"first",
			dist)
	}
	dirs := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var m struct {
			Sources []string `json:"sources"`
		}
		if err := json.Unmarshal(text, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, source := range m.Sources {
			if dir := packageOf(source); dir != "" {
				dirs[dir] = true
			}
		}
	}
	var all []*part
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		p, err := npmPackage(dir)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *part) int {
		return cmp.Or(cmp.Compare(a.name, b.name),
			cmp.Compare(a.version, b.version))
	})
	return all, nil
}

// packageOf is the directory of the package that a source of a source map belongs to; empty: it is our own.
func packageOf(source string) string {
	// webpack://name/./node_modules/@scope/package/file.js?hash; one that is outside of the folder begins with ../
	_, path, ok := strings.Cut(source, "://")
	if !ok {
		return ""
	}
	const modules = "node_modules/"
	first, last := strings.Index(path, modules), strings.LastIndex(path, modules)
	if first < 0 {
		return ""
	}
	last += len(modules)
	name := strings.SplitN(path[last:], "/", 3)
	n := 1
	if strings.HasPrefix(name[0], "@") {
		n = 2
	}
	if len(name) <= n {
		return "" // a file that the bundler made up
	}
	return path[first:last] + strings.Join(name[:min(n, len(name))], "/")
}

func npmPackage(dir string) (*part, error) {
	text, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if err != nil {
		return nil, err
	}
	var about struct {
		Name, Version, License string
		Author                 any
	}
	if err := json.Unmarshal(text, &about); err != nil {
		return nil, fmt.Errorf("%s/package.json: %w", dir, err)
	}
	if about.License == "" {
		return nil, errors.New(dir + "/package.json names no licence as an SPDX expression")
	}
	p := &part{name: about.Name, version: about.Version, where: []string{"module.js"}}
	p.add(choose(about.License)...)
	files, err := texts(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		p.texts = append(p.texts, files[name])
	}
	if len(p.texts) == 0 {
		// Some packages say it in package.json only: that is then the notice there is.
		p.texts = []string{fmt.Sprintf("%s is under %s. Its package holds no other notice.", about.Name, about.License)}
	}
	return p, nil
}
