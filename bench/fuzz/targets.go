//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/p-scope/p-scope/bench/internal/processes"
)

// target is one fuzz target: a function of a package's tests.
type target struct{ pkg, name string }

var declared = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

// findTargets looks through the tests below root. only: those with one of these words in package or name.
func findTargets(root string, only []string) (all []target, err error) {
	err = filepath.WalkDir(filepath.Join(root, "pkg"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range declared.FindAllSubmatch(text, -1) {
			pkg, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			t := target{pkg, string(m[1])}
			wanted := func(word string) bool { return strings.Contains(t.pkg, word) || strings.Contains(t.name, word) }
			if len(only) == 0 || slices.ContainsFunc(only, wanted) {
				all = append(all, t)
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b target) int {
		return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.name, b.name))
	})
	return all, err
}

// cpuOf is the CPU time that a process, its ended children and its running children have taken.
func cpuOf(pid int) (sum time.Duration) {
	for _, p := range append(processes.Children(pid), pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			continue // it has ended meanwhile
		}
		f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for i := 11; i <= 14 && i < len(f); i++ { // utime stime cutime cstime, in units of 10 ms
			n, _ := strconv.ParseInt(f[i], 10, 64)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
