package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/p-scope/p-scope/bench/internal/report"
)

// set is what was measured on one machine with one kernel.
type set struct {
	Machine report.Machine `json:"machine"`
	Run     string         `json:"run"`  // length of each run
	Warm    string         `json:"warm"` // observed before it
	Windows int            `json:"windows,omitempty"`
	// Besides is the share of the CPUs that other processes took meanwhile, 0 to 1: of which the busiest part that was
	// merged into this set. Negative: not measured.
	Besides float64   `json:"besides"`
	Results []*result `json:"results"`
}

// same says whether two sets are of the same machine and kernel, so that the newer one's results replace the older
// one's.
func (s *set) same(o *set) bool {
	return s.Machine.CPU == o.Machine.CPU && s.Machine.CPUs == o.Machine.CPUs && s.Machine.Under == o.Machine.Under &&
		s.Machine.Kernel == o.Machine.Kernel &&
		s.Machine.Arch == o.Machine.Arch && s.Windows == o.Windows
}

// results are the sets of several machines, as FILE.json has them.
type results struct {
	Sets []*set `json:"sets"`
}

// readResults reads FILE.json. One that does not exist has no sets.
func readResults(path string) (*results, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &results{}, nil
	}
	if err != nil {
		return nil, err
	}
	var r results
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s holds no results of several machines; write it anew without -merge: %w", path, err)
	}
	return &r, nil
}

// add puts a set beside the others. What there is of the same machine and kernel is replaced by workload and number of
// Ps, and stays where the new one has none.
func (r *results) add(n *set) {
	i := slices.IndexFunc(r.Sets, n.same)
	if i < 0 {
		r.Sets = append(r.Sets, n)
		return
	}
	old := r.Sets[i]
	for _, o := range old.Results {
		if !slices.ContainsFunc(n.Results, func(x *result) bool { return x.Workload == o.Workload && x.Ps == o.Ps }) {
			n.Results = append(n.Results, o)
			n.Besides = max(n.Besides, old.Besides)
		}
	}
	slices.SortStableFunc(n.Results, func(a, b *result) int { return place(a.Workload) - place(b.Workload) })
	r.Sets[i] = n
}

// place is where a workload stands in the tables.
func place(load string) int {
	return slices.Index(strings.Split(allLoads, ","), load)
}

// write puts the sets into BASE.md and BASE.json.
func (r *results) write(base string) error {
	var text strings.Builder
	fmt.Fprint(&text, "# P-Scope against runtime/trace, the runtime's own log, /proc and the runtime's "+
		"counters\n\nErrors of shares are percentage points; bench/README.md explains the columns.\n")
	for _, s := range r.Sets {
		s.print(&text)
	}
	return report.Write(filepath.Dir(base), filepath.Base(base), text.String(), r)
}

func (s *set) print(w io.Writer) {
	besides := "what other processes took meanwhile was not measured"
	if s.Besides >= 0 {
		besides = fmt.Sprintf("other processes took %.0f %% of the CPUs meanwhile", 100*s.Besides)
	}
	fmt.Fprintf(w, "\n## %s, Linux %s\n\n%s. Runs of %s, observed for %s before; %s.\n\n",
		cmp.Or(s.Machine.CPU, s.Machine.Arch), s.Machine.Kernel, s.Machine, s.Run, s.Warm, besides)
	header(w)
	for _, r := range s.Results {
		r.print(w, false)
	}
	summary(w, s.Results)
}
