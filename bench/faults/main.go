//go:build linux

// Command faults lets happen to a running agent what happens to agents, and measures how much history was lost, how
// long nothing was shown, and whether anything was said that is not so. Run it as root.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/p-scope/p-scope/bench/internal/processes"
	"github.com/p-scope/p-scope/bench/internal/report"
)

// outcome is one time that a fault happened.
type outcome struct {
	// seconds of history that are missing though an agent ran, or had been there before
	Lost float64 `json:"history_lost_s"`
	// longest time without a live view; where the agent ends, from the start of the next one on
	Blind   float64            `json:"blind_s"`
	Untrue  int                `json:"untrue"`  // pairs of neighbouring samples that say more than wall time
	Ended   bool               `json:"ended"`   // the agent ended by itself
	Counted map[string]float64 `json:"counted"` // what the agent says it lost, by reason
	Note    string             `json:"note,omitempty"`
}

// row is all times of a fault.
type row struct {
	Fault string    `json:"fault"`
	Times []outcome `json:"times"`
}

// results is what faults.json holds.
type results struct {
	Machine report.Machine `json:"machine"`
	Load    int            `json:"load"` // busy processes beside
	Rows    []*row         `json:"rows"`
}

func main() {
	times := flag.Int("times", 5, "how often each fault happens")
	only := flag.String("only", "", "faults whose name has this in it")
	load := flag.Int("load", 2, "busy processes beside")
	churn := flag.Duration("churn", 2*time.Minute, "how long processes come and go in the fault of that name")
	out := flag.String("out", "", "directory for faults.md and faults.json; empty: print only")
	flag.Parse()
	r := &results{Machine: report.ThisMachine(), Load: *load}
	err := r.all(*times, *only, *churn)
	text := r.markdown()
	fmt.Print(text)
	if err == nil && *out != "" {
		err = report.Write(*out, "faults", text, r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func (r *results) all(times int, only string, churn time.Duration) error {
	dir, err := os.MkdirTemp("", "pscope-faults")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, pkg := range map[string]string{"workload": processes.Workload, "pscope": processes.Pscope} {
		if err := processes.Build(filepath.Join(dir, name), pkg); err != nil {
			return err
		}
	}
	stop, err := processes.Burn(r.Load)
	if err != nil {
		return err
	}
	defer stop()
	for _, f := range faults(churn) {
		if !strings.Contains(f.name, only) {
			continue
		}
		x := &row{Fault: f.name}
		r.Rows = append(r.Rows, x)
		for n := range times {
			if f.once && n > 0 {
				break
			}
			o, err := f.happen(dir)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			x.Times = append(x.Times, *o)
		}
		fmt.Fprintln(os.Stderr, x)
	}
	return nil
}

func (x *row) String() string {
	spread := func(of func(o outcome) float64) string {
		v := []float64{}
		for _, o := range x.Times {
			v = append(v, of(o))
		}
		slices.Sort(v)
		if len(v) == 0 {
			return "–"
		}
		return fmt.Sprintf("%.2f, %.2f", v[len(v)/2], v[len(v)-1])
	}
	untrue, ended := 0, 0
	reasons, notes := map[string]bool{}, []string{}
	for _, o := range x.Times {
		untrue += o.Untrue
		if o.Ended {
			ended++
		}
		for reason, n := range o.Counted {
			if n > 0 {
				reasons[reason] = true
			}
		}
		if o.Note != "" && !slices.Contains(notes, o.Note) {
			notes = append(notes, o.Note)
		}
	}
	var counted []string
	for reason := range reasons {
		counted = append(counted, "`"+reason+"`")
	}
	slices.Sort(counted)
	return fmt.Sprintf(
		"| %s | %d | %s | %s | %d | %d | %s | %s |",
		x.Fault,
		len(x.Times),
		spread(func(o outcome) float64 { return o.Lost }),
		spread(
			func(o outcome) float64 { return o.Blind },
		),
		ended,
		untrue,
		strings.Join(counted, " "),
		strings.Join(notes, "; "),
	)
}

func (r *results) markdown() string {
	var t strings.Builder
	fmt.Fprintf(
		&t,
		"# What happens to the agent, and what it costs\n\n%s. Beside the agent and one observed program, %d processes "+
			"that only burn CPU time.\n",
		r.Machine,
		r.Load,
	)
	fmt.Fprintf(&t, "Made by `go run ./bench/faults -out bench/results`, as root.\n\n")
	fmt.Fprintf(
		&t,
		"*History lost*: seconds that were kept before, or that passed while an agent ran, and have no sample; median, "+
			"worst. The agent takes a sample a second. *Blind*: the longest time without\n",
	)
	fmt.Fprintf(
		&t,
		"an answer that shows the program (asked ten times a second); where the agent ends, from the start of its "+
			"successor on. *Ended*: how often the agent ended by itself. *Untrue*: pairs of\n",
	)
	fmt.Fprintf(
		&t,
		"neighbouring samples between which the states of all Ps sum to more than wall time by 1 %% and half a second a "+
			"P. *Counted*: reasons of `pscope_lost_events_total` that grew.\n\n",
	)
	fmt.Fprintf(
		&t,
		"| fault | times | history lost, s | blind, s | ended | untrue | counted | note |\n| --- | --- | --- | --- | --- "+
			"| --- | --- | --- |\n",
	)
	for _, x := range r.Rows {
		fmt.Fprintln(&t, x)
	}
	return t.String()
}
