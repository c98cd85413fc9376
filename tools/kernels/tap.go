package main

import (
	"fmt"
	"io"
	"strings"
)

// tap writes a test for each check of each cell, in the Test Anything Protocol.
func tap(w io.Writer, cells []cell) {
	fmt.Fprintln(w, "TAP version 13")
	n := 0
	for i := range cells {
		for _, before := range cells[i].Before {
			fmt.Fprintf(w, "# %s: tried again; before: %s\n", cells[i].name(), before)
		}
		for _, v := range cells[i].Checks {
			n++
			name := fmt.Sprintf("%d - %s: %s", n, cells[i].name(), v.Check)
			switch {
			case v.good() && v.Skipped != "":
				fmt.Fprintf(w, "ok %s # SKIP %s\n", name, v.Skipped)
			case v.good():
				fmt.Fprintf(w, "ok %s\n", name)
			default:
				fmt.Fprintf(w, "not ok %s\n  ---\n", name)
				for _, wrong := range v.Wrong {
					fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(wrong, "\n", "\n  "))
				}
				fmt.Fprintln(w, "  ...")
			}
		}
	}
	fmt.Fprintf(w, "1..%d\n", n)
}
