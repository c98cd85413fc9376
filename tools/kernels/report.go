package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/p-scope/p-scope/tools/kernels/account"
)

var columns = []string{
	"kernel", "arch", "user", "source", "layouts", "worst share", "stops: runtime / seen", "wake waits",
	"queued: in fact / seen", "lost", "doctor", "result",
}

// row is a cell's line in the table.
func (c *cell) row() []string {
	kernel := c.Line
	out := []string{kernel, c.Arch, c.User}
	r := c.Result
	if r == nil {
		out = append(out, "", "", "", "", "", "", "", "")
	} else {
		out = append(out, sourceCell(r), layoutCell(r), shareCell(r), stopCell(&r.Table), waitCell(&r.Table),
			depthCell(&r.Table),
			lostCell(&r.Table), doctorCell(&r.Doctor))
	}
	return append(out, c.outcome())
}

// outcome is "as promised", or the checks that failed.
func (c *cell) outcome() string {
	var bad []string
	for _, v := range c.Checks {
		if !v.good() {
			bad = append(bad, v.Check)
		}
	}
	switch {
	case len(bad) > 0:
		return "**not as promised**: " + strings.Join(bad, ", ")
	case len(c.Before) > 0:
		return fmt.Sprintf("as promised at try %d; before: %s", len(c.Before)+1, strings.Join(c.Before, "; "))
	}
	return "as promised"
}

// summary is what a try gave, in the line of one that came after it.
func (c *cell) summary() string {
	var bad []string
	for _, v := range c.Checks {
		if !v.good() {
			bad = append(bad, v.Check)
		}
	}
	out := strings.Join(bad, ", ")
	if c.Result != nil {
		out += ", worst share " + shareCell(c.Result)
	}
	return out
}

func sourceCell(r *account.Result) string {
	if r.Table.Source == "" {
		return r.Mode
	}
	return r.Table.Source
}

func layoutCell(r *account.Result) string {
	of := func(t account.Target) string {
		if t.Layout == "" {
			return "none"
		}
		return t.Layout
	}
	return of(r.Table) + ", " + of(r.Search)
}

// shareCell is the state whose share is furthest from the program's account, of those that are promised.
func shareCell(r *account.Result) string {
	t := &r.Table
	if t.Source == "snapshot" {
		return "estimates"
	}
	worst, off := "", -1.0
	for _, state := range sortedKeys(t.Shares) {
		d := math.Abs(t.Shares[state].Own - t.Shares[state].Seen)
		if d > off && (state == "idle" || !withoutSamples(r.User, r.Paranoid)) {
			worst, off = state, d
		}
	}
	if worst == "" {
		return "none"
	}
	s := t.Shares[worst]
	return fmt.Sprintf("%.1f points (%s: %.1f %%, seen %.1f %%)", off*100, worst, s.Own*100, s.Seen*100)
}

func stopCell(t *account.Target) string {
	if t.Stops == nil {
		return fmt.Sprintf("%s / none", t.RuntimeStops)
	}
	return fmt.Sprintf("%s / %d", t.RuntimeStops, t.Stops.All)
}

func waitCell(t *account.Target) string {
	if t.WakeWaits == nil {
		return "none"
	}
	return fmt.Sprintf("%d, mean %.0f µs", t.WakeWaits.N, t.WakeWaits.Mean*1e6)
}

func depthCell(t *account.Target) string {
	if len(t.Queues) == 0 {
		return fmt.Sprintf("%d / none", account.Queued)
	}
	return fmt.Sprintf("%d / %g", account.Queued, median(t.Depths()))
}

func lostCell(t *account.Target) string {
	var out []string
	for _, reason := range sortedKeys(t.Lost) {
		out = append(out, fmt.Sprintf("%.0f %s", t.Lost[reason], reason))
	}
	if len(out) == 0 {
		return "0"
	}
	return strings.Join(out, ", ")
}

func doctorCell(d *account.Doctor) string {
	if d.Failed != "" {
		return "failed"
	}
	out := d.Verdict + ", " + d.Mode
	if d.Stops != "" {
		out += ", stops " + d.Stops
	}
	return out
}

// markdown is the whole report.
func markdown(cells []cell, date string) string {
	var b strings.Builder
	b.WriteString("# Kernels\n\nMade by `npm run test:kernels -- --results` (" + date + "). What a user is promised " +
		"on a kernel stands in " +
		"[installing](../../docs/install.md); a line is *as promised* if it shows that.\n\n")
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)))
	for i := range cells {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells[i].row(), " | "))
	}
	b.WriteString("\nThe program has 2 Ps on a machine of 2 CPUs, emulated by qemu without KVM but for *this host*. " +
		"Its own account of shares is runtime/metrics' `/cpu/classes` between two collections, of calls its own " +
		"clock; " +
		"of stops `/sched/pauses`. Of the layouts the first is of a stripped program of a known Go version, " +
		"the second of one whose version no table has: found by search, proven in its memory.\n")
	reasons(&b, cells)
	packages(&b, cells)
	return b.String()
}

// reasons says what is behind each line that shows less than everything.
func reasons(b *strings.Builder, cells []cell) {
	b.WriteString("\n## Reasons\n\nWhat the agent itself says where it shows less than everything, and what is " +
		"not as " +
		"promised.\n\n")
	for i := range cells {
		c := &cells[i]
		var lines []string
		if r := c.Result; r != nil {
			if r.Table.Reason != "" {
				lines = append(lines, "reason: "+r.Table.Reason)
			}
			for _, l := range r.Lacks {
				lines = append(lines, fmt.Sprintf("%s: %s", l.What, l.Why))
			}
		}
		for _, v := range c.Checks {
			for _, w := range v.Wrong {
				lines = append(lines, fmt.Sprintf("**%s**: %s", v.Check, w))
			}
		}
		if len(lines) > 0 {
			fmt.Fprintf(b, "- %s\n", c.name())
			for _, l := range lines {
				fmt.Fprintf(b, "  - %s\n", strings.Join(strings.Fields(l), " "))
			}
		}
	}
}

func packages(b *strings.Builder, cells []cell) {
	b.WriteString("\n## Packages\n\n| kernel | arch | package | |\n| --- | --- | --- | --- |\n")
	seen := map[string]bool{}
	for _, c := range cells {
		if key := c.Line + c.Arch; !seen[key] {
			seen[key] = true
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", c.Line, c.Arch, c.Package, c.Instead+bootedAgain(cells, key))
		}
	}
}

// bootedAgain says how often a kernel was booted again.
func bootedAgain(cells []cell, key string) string {
	n := 0
	for _, c := range cells {
		if c.Line+c.Arch == key {
			n = max(n, c.Again)
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("booted again %d times: %v", n, errPatching)
}

// readCells reads what writeResults has written.
func readCells(dir string) (cells []cell, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "kernels.json"))
	if err == nil {
		err = json.Unmarshal(b, &cells)
	}
	if err != nil {
		return nil, fmt.Errorf("read the results so far: %w; without -merge they are made anew", err)
	}
	return cells, nil
}

// merged puts new cells in the place of old ones of the same kernel and user; what those gave stays with them where it
// was not as promised.
func merged(old, fresh []cell) []cell {
	for i := range fresh {
		c := &fresh[i]
		at := slices.IndexFunc(old, func(o cell) bool { return o.name() == c.name() })
		if at < 0 {
			old = append(old, *c)
			continue
		}
		if !old[at].good() {
			c.Before = append(append(slices.Clone(old[at].Before), old[at].summary()), c.Before...)
		}
		old[at] = *c
	}
	return old
}

// writeResults puts the report into a directory, beside its data.
func writeResults(dir string, cells []cell, date string) error {
	j, err := json.MarshalIndent(cells, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "kernels.json"), append(j, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "kernels.md"), []byte(markdown(cells, date)), 0o644)
}
