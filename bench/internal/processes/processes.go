//go:build linux

// Package processes is what the benchmarks share about the processes they start: building them, keeping CPUs busy
// beside them, and finding their children.
package processes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// The packages of the programs that several benchmarks run.
const (
	Workload = "bench/truth/workload"
	Pscope   = "pkg/cmd/pscope"
)

// Build builds a package of this repository as a file.
func Build(file, pkg string) error {
	build := exec.Command("go", "build", "-trimpath", "-o", file, "github.com/p-scope/p-scope/"+pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// Burn starts n processes that only take CPU time and are no Go programs. end ends them.
func Burn(n int) (end func(), err error) {
	var all []*exec.Cmd
	end = func() {
		for _, c := range all {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
	for range n {
		c := exec.Command("sh", "-c", "while :; do :; done")
		if err := c.Start(); err != nil {
			end()
			return nil, err
		}
		all = append(all, c)
	}
	return end, nil
}

// Children lists the children of a process; none if it has ended. It takes a kernel with CONFIG_PROC_CHILDREN.
func Children(pid int) (pids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is well-formed
	for _, file := range tasks {
		text, _ := os.ReadFile(file) // the thread may have ended
		for _, word := range strings.Fields(string(text)) {
			if p, err := strconv.Atoi(word); err == nil {
				pids = append(pids, p)
			}
		}
	}
	return pids
}
