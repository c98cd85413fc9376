//go:build linux

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// What is kept of a target in the repository.
const (
	mostKept     = 12      // files of a target
	mostBytes    = 2 << 10 // of each
	mostCompared = 40      // of what was learnt, the smallest
)

// keep adds what was learnt to testdata/fuzz: of the smallest inputs those that reach statements which neither the
// seeds nor an input kept before reach. It gives how many.
func keep(ctx context.Context, cache, pkg, name string) (kept int) {
	learnt := smallest(filepath.Join(cache, pkg, name))
	to := filepath.Join(pkg, "testdata", "fuzz", name)
	before, _ := os.ReadDir(to) // there may be none
	room := mostKept - len(before)
	if len(learnt) == 0 || room <= 0 {
		return 0
	}
	binary := filepath.Join(cache, "cover.test")
	defer os.Remove(binary)
	c := exec.CommandContext(ctx, "go", "test", "-c", "-p", "1", "-cover", "-o", binary, "./"+pkg)
	c.Env = append(os.Environ(), "GOMAXPROCS=1", "CGO_ENABLED=0")
	if c.Run() != nil {
		return 0
	}
	reached := covered(ctx, binary, pkg, "^"+name+"$", cache)
	if reached == nil {
		return 0
	}
	for _, file := range learnt {
		text, err := os.ReadFile(file)
		if err != nil || os.MkdirAll(to, 0o755) != nil {
			continue
		}
		path := filepath.Join(to, filepath.Base(file))
		if _, err := os.Stat(path); err == nil || os.WriteFile(path, text, 0o644) != nil {
			continue
		}
		more := 0
		now := covered(ctx, binary, pkg, "^"+name+"$/^"+filepath.Base(file)+"$", cache)
		for block := range now {
			if !reached[block] {
				more++
			}
		}
		if more == 0 {
			_ = os.Remove(path)
			continue
		}
		for block := range now {
			reached[block] = true
		}
		if kept++; kept == room {
			break
		}
	}
	_ = os.Remove(to) // only if it is empty
	return kept
}

// smallest lists the smallest files of a directory that are small enough.
func smallest(dir string) (files []string) {
	entries, _ := os.ReadDir(dir) // there may be none
	sizes := map[string]int64{}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && info.Size() <= mostBytes {
			file := filepath.Join(dir, e.Name())
			sizes[file] = info.Size()
			files = append(files, file)
		}
	}
	slices.SortFunc(files, func(a, b string) int {
		if sizes[a] != sizes[b] {
			return int(sizes[a] - sizes[b])
		}
		return strings.Compare(a, b)
	})
	return files[:min(len(files), mostCompared)]
}

// covered gives the blocks of code that a run of tests reaches; nil: it failed.
func covered(ctx context.Context, binary, pkg, run, cache string) map[string]bool {
	profile := filepath.Join(cache, "cover.out")
	defer os.Remove(profile)
	c := exec.CommandContext(ctx, binary, "-test.run", run, "-test.coverprofile", profile)
	c.Dir = pkg
	if c.Run() != nil {
		return nil
	}
	text, err := os.ReadFile(profile)
	if err != nil {
		return nil
	}
	blocks := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		// "file.go:1.2,3.4 statements count"
		f := strings.Fields(line)
		if len(f) == 3 && f[2] != "0" {
			blocks[f[0]] = true
		}
	}
	return blocks
}
