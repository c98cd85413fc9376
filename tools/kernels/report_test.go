package main

import (
	"strings"
	"testing"
)

// A line that is tried again takes the place of the one before, and says what that gave.
func TestMergedLinesSayWhatWasBefore(t *testing.T) {
	line := func(user string, wrong ...string) cell {
		r := everything()
		r.User = user
		return cell{Line: "6.1", Arch: "amd64", User: user, Result: r,
			Checks: []verdict{{Check: "shares", Wrong: wrong}}}
	}
	dir := t.TempDir()
	first := []cell{line("root", "gc: 1 %, seen 9 %"), line("capabilities")}
	if err := writeResults(dir, first, "2026-01-01"); err != nil {
		t.Fatal(err)
	}
	old, err := readCells(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := merged(old, []cell{line("root"), line("capabilities"), line("unprivileged")})
	if len(all) != 3 {
		t.Fatalf("%d lines", len(all))
	}
	if got := all[0].outcome(); !strings.HasPrefix(got, "as promised at try 2; before: shares, worst share ") {
		t.Errorf("root: %s", got)
	}
	if got := all[1].outcome(); got != "as promised" {
		t.Errorf("what was as promised before: %s", got)
	}
}
