//go:build linux

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/p-scope/p-scope/bench/internal/report"
)

// result is what a target has done so far: runs are added up.
type result struct {
	Package    string  `json:"package"`
	Target     string  `json:"target"`
	At         string  `json:"at"` // the day of the last run
	CPUMinutes float64 `json:"cpu_minutes"`
	Minutes    float64 `json:"minutes"` // on the clock
	Executions int64   `json:"executions"`
	Learnt     int     `json:"learnt"` // inputs that reached new code
	Kept       int     `json:"kept"`   // of those, added to testdata/fuzz
	Finding    string  `json:"finding,omitempty"`
}

// results is what fuzz.json holds.
type results struct {
	Machine report.Machine `json:"machine"`
	Targets []*result      `json:"targets"`
}

var (
	progress = regexp.MustCompile(`execs: (\d+) .*new interesting: (\d+)`)
	wrote    = regexp.MustCompile(`Failing input written to (\S+)`)
)

// read takes what the fuzzer says: its last line of progress, and whether it failed.
func (r *result) read(said string) {
	if all := progress.FindAllStringSubmatch(said, -1); len(all) > 0 {
		last := all[len(all)-1]
		r.Executions, _ = strconv.ParseInt(last[1], 10, 64)
		r.Learnt, _ = strconv.Atoi(last[2])
	}
	if m := wrote.FindStringSubmatch(said); m != nil {
		r.Finding = filepath.Join(r.Package, m[1])
		fmt.Fprintln(os.Stderr, said)
	} else if strings.Contains(said, "--- FAIL") || strings.Contains(said, "panic:") {
		r.Finding = lastLines(said, 6)
		fmt.Fprintln(os.Stderr, said)
	}
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " / ")
}

func (r *result) String() string {
	s := fmt.Sprintf("%s %s: %.1f min of CPU in %.1f min, %d executions, %d inputs learnt, %d kept", r.Package,
		r.Target,
		r.CPUMinutes,
		r.Minutes, r.Executions, r.Learnt, r.Kept)
	if r.Finding != "" {
		s += "; FOUND " + r.Finding
	}
	return s
}

// readResults gives what ran before.
func readResults(dir string) (*results, error) {
	all := &results{}
	text, err := os.ReadFile(filepath.Join(dir, "fuzz.json"))
	if err == nil {
		err = json.Unmarshal(text, all)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	all.Machine = report.ThisMachine()
	return all, err
}

// add adds a run to those before. A finding is gone when the target runs without it.
func (all *results) add(r *result) {
	i := slices.IndexFunc(all.Targets, func(o *result) bool { return o.Package == r.Package && o.Target == r.Target })
	if i < 0 {
		all.Targets = append(all.Targets, r)
	} else {
		o := all.Targets[i]
		sum := *r
		sum.CPUMinutes += o.CPUMinutes
		sum.Minutes += o.Minutes
		sum.Executions += o.Executions
		sum.Learnt += o.Learnt
		sum.Kept += o.Kept
		all.Targets[i] = &sum
	}
	slices.SortFunc(all.Targets, func(a, b *result) int {
		return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.Target, b.Target))
	})
}

func (all *results) markdown() string {
	var t strings.Builder
	var minutes float64
	var executions int64
	findings := 0
	for _, r := range all.Targets {
		minutes += r.CPUMinutes
		executions += r.Executions
		if r.Finding != "" {
			findings++
		}
	}
	fmt.Fprintf(&t, "# Fuzzing\n\n%s. Made by `npm run fuzz`, at the lowest priority beside whatever else the machine "+
		"did.\n\n", all.Machine)
	fmt.Fprintf(&t, "%d targets ran for %.0f minutes of CPU time together, %d million inputs; %d end with a finding "+
		"that is not mended.\n",
		len(all.Targets), minutes, executions/1e6, findings)
	fmt.Fprint(&t, "Runs are added up. Each target bounds the CPU time of one input. *Learnt*: inputs that reached "+
		"new code. *Kept*: the smallest of\n")
	fmt.Fprint(&t, "those that reach statements which no other kept one reaches; they stand in `testdata/fuzz` and "+
		"run with every `go test`.\n\n")
	fmt.Fprint(&t, "| package | target | CPU, min | inputs | learnt | kept | last run | finding |\n| --- | --- | --- "+
		"| --- | --- | --- | --- | --- |\n")
	for _, r := range all.Targets {
		finding := "none"
		if r.Finding != "" {
			finding = "`" + strings.ReplaceAll(r.Finding, "|", "/") + "`"
		}
		fmt.Fprintf(&t, "| %s | %s | %.1f | %d | %d | %d | %s | %s |\n", r.Package, r.Target, r.CPUMinutes,
			r.Executions,
			r.Learnt, r.Kept, r.At,
			finding)
	}
	return t.String()
}
