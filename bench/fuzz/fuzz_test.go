//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFindTargets(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pkg/b/x_test.go"), "package b\n\nfunc FuzzTwo(f *testing.F) {}\n\nfunc FuzzOne(f "+
		"*testing.F) {\n}\n")
	write(t, filepath.Join(dir, "pkg/a/x_test.go"), "package a\n\nfunc FuzzThree(f *testing.F) {}\nfunc FuzzHelper(t "+
		"*testing.T) {}\n")
	write(t, filepath.Join(dir, "pkg/a/x.go"), "package a\n\nfunc FuzzNot(f *testing.F) {}\n")
	for only, want := range map[string]string{"": "pkg/a FuzzThree, pkg/b FuzzOne, pkg/b FuzzTwo",
		"Two": "pkg/b FuzzTwo", "pkg/a,One": "pkg/a FuzzThree, pkg/b FuzzOne", "x": ""} {
		var words, got []string
		if only != "" {
			words = strings.Split(only, ",")
		}
		all, err := findTargets(dir, words)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range all {
			got = append(got, x.pkg+" "+x.name)
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%q: %q, want %q", only, got, want)
		}
	}
}

func TestWhatTheFuzzerSays(t *testing.T) {
	r := result{Package: "pkg/a"}
	r.read("fuzz: elapsed: 3s, execs: 100 (33/sec), new interesting: 2 (total: 9)\nfuzz: elapsed: 4s, execs: 250 " +
		"(33/sec), new interesting: 5 (total: 12)\nPASS\n")
	if r.Executions != 250 || r.Learnt != 5 || r.Finding != "" {
		t.Errorf("%+v", r)
	}
	r.read("--- FAIL: FuzzX (0.1s)\n    Failing input written to testdata/fuzz/FuzzX/0123\n")
	if r.Finding != "pkg/a/testdata/fuzz/FuzzX/0123" {
		t.Errorf("%+v", r)
	}
	var all results
	all.add(&result{Package: "p", Target: "T", CPUMinutes: 1, Executions: 5, Finding: "x"})
	all.add(&result{Package: "p", Target: "T", CPUMinutes: 2, Executions: 6})
	if len(all.Targets) != 1 || all.Targets[0].CPUMinutes != 3 || all.Targets[0].Executions != 11 ||
		all.Targets[0].Finding != "" {
		t.Errorf("%+v", all.Targets[0])
	}
}
