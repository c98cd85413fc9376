//go:build linux

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/p-scope/p-scope/bench/internal/report"
)

// outcome is one time that a fault happened.
type outcome struct {
	// samples, of one a second, that had been taken, or were due while an agent ran, and are not kept
	Lost int `json:"samples_lost"`
	// longest distance of two samples around the fault and after it, seconds: with the time in which no agent ran
	Gap float64 `json:"gap_s"`
	// longest time without a live view; where the agent ends, from the start of the next one on
	Blind   float64            `json:"blind_s"`
	Untrue  int                `json:"untrue"`  // pairs of neighbouring samples that say more than wall time
	Ended   bool               `json:"ended"`   // the agent ended by itself
	Counted map[string]float64 `json:"counted"` // what the agent says it lost, by reason
	Load    float64            `json:"load"`    // of the machine, in the minute before
	Levels  []level            `json:"levels,omitempty"`
	Note    string             `json:"note,omitempty"`
}

// row is all times of a fault.
type row struct {
	Fault   string    `json:"fault"`
	Beside  int       `json:"beside"` // processes that only burn CPU time
	Guest   bool      `json:"guest,omitempty"`
	Failed  int       `json:"failed,omitempty"`  // times that could not be judged
	Missing string    `json:"missing,omitempty"` // why it can't happen on this machine
	Times   []outcome `json:"times"`
}

// results is what faults.json holds.
type results struct {
	Machine report.Machine `json:"machine"`
	Remarks string         `json:"remarks,omitempty"` // what the machine did beside
	Rows    []*row         `json:"rows"`
}

// put adds a row in the place of one of the same name, in the order of the faults.
func (r *results) put(x *row) {
	r.Rows = slices.DeleteFunc(r.Rows, func(o *row) bool { return o.Fault == x.Fault })
	r.Rows = append(r.Rows, x)
	place := map[string]int{}
	for i, f := range faults(time.Minute) {
		place[f.name] = i
	}
	slices.SortStableFunc(r.Rows, func(a, b *row) int { return cmp.Compare(place[a.Fault], place[b.Fault]) })
}

func (x *row) String() string {
	if x.Missing != "" {
		return fmt.Sprintf("| %s | 0 | – | – | – | – | – | | | %s |", x.Fault, x.Missing)
	}
	spread := func(format string, of func(o outcome) float64) string {
		v := []float64{}
		for _, o := range x.Times {
			v = append(v, of(o))
		}
		slices.Sort(v)
		if len(v) == 0 {
			return "–"
		}
		return fmt.Sprintf(format+", "+format, v[len(v)/2], v[len(v)-1])
	}
	untrue, ended := 0, 0
	reasons, notes := map[string]bool{}, []string{}
	if x.Guest {
		notes = append(notes, "in a guest")
	}
	if x.Failed > 0 {
		notes = append(notes, fmt.Sprintf("%d times not judged", x.Failed))
	}
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
		"| %s | %d | %s | %s | %s | %d | %d | %s | %s | %s |",
		x.Fault, len(x.Times),
		spread("%.0f", func(o outcome) float64 { return float64(o.Lost) }),
		spread("%.2f", func(o outcome) float64 { return o.Gap }),
		spread("%.2f", func(o outcome) float64 { return o.Blind }),
		ended, untrue, strings.Join(counted, " "),
		spread("%.0f", func(o outcome) float64 { return o.Load }),
		strings.Join(notes, "; "),
	)
}

// explanation stands above the table.
const explanation = `
*Lost*: samples, of one a second, that had been taken or were due while an agent ran, and are not kept
afterwards. *Gap*: the longest distance of two samples, from the last one before the fault on, in
seconds: where the agent ends, with the time until the next one has found the program. *Blind*: the
longest time without an answer that shows the program live (asked ten times a second), in seconds; where
the agent ends, from the start of its successor on. Of these three, the median and the worst. *Ended*:
how often the agent ended by itself. *Untrue*: pairs of neighbouring samples between which the states of
all Ps sum to more than wall time by 1 % and half a second a P. *Counted*: reasons of ` + "`pscope_lost_events_total`" + ` that grew.
*Load*: the machine's in the minute before, median and worst.

The full disk is a small file system in memory that is filled up. The disk that is slow, does not
answer, is read-only or fails is a FUSE file system (bench/faults/faultydisk.go) between the agent and a
directory. Clocks are set in an emulated guest (` + "`-guest`" + `, tools/kernels).
`

func (r *results) markdown() string {
	var t strings.Builder
	beside := map[int]bool{}
	for _, x := range r.Rows {
		beside[x.Beside] = true
	}
	var counts []string
	for n := range beside {
		counts = append(counts, fmt.Sprint(n))
	}
	slices.Sort(counts)
	fmt.Fprintf(&t, "# What happens to the agent, and what it costs\n\n%s. Beside the agent and one observed program, "+
		"%s processes that only burn CPU time.\n",
		r.Machine, strings.Join(counts, " or "))
	fmt.Fprintf(&t, "Made by `go run ./bench/faults -out bench/results`, as root.\n")
	if r.Remarks != "" {
		fmt.Fprintf(&t, "\n%s\n", r.Remarks)
	}
	t.WriteString(explanation)
	t.WriteString("\n| fault | times | lost | gap, s | blind, s | ended | untrue | counted | load | note |\n| --- | " +
		"--- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, x := range r.Rows {
		fmt.Fprintln(&t, x)
	}
	return t.String()
}
