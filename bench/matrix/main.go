// Command matrix builds one program with the newest release of every Go line, in every way to link it, and checks that
// P-Scope understands each: the layout read from the file against its debugging information, for amd64 and arm64; and
// for what runs here the observation by eBPF against the kernel's own accounting and the runtime's own count of
// collections. It prints a table and writes it, with the figures, to bench/results.
//
// Run it in the root of the repository, as root. -count rounds and medians make no sense here: each check holds or does
// not.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// row is one program.
type row struct {
	Go      string `json:"go"`
	Arch    string `json:"arch"`
	Variant string `json:"variant"`

	Layout string `json:"layout,omitempty"` // where the layout came from
	PIE    bool   `json:"pie"`
	Cgo    bool   `json:"cgo"`
	// offset of G from the thread pointer; 0 on arm64 without cgo, where G is in a register
	TLSG int64 `json:"tls_g"`
	Live *live `json:"live,omitempty"`

	Complaints []string `json:"complaints,omitempty"` // empty: everything holds
}

func main() {
	toolchains := flag.String("toolchains", "1.21.13,1.22.12,1.23.12,1.24.13,1.25.14,1.26.11,1.27.4", "Go releases, "+
		"comma-separated")
	only := flag.String("variants", "", "ways to build, comma-separated; all if empty")
	run := flag.Duration("run", 2*time.Second, "how long each program is observed")
	out := flag.String("out", filepath.Join("bench", "results"), "folder for matrix.md and matrix.json; empty: write "+
		"nothing")
	keep := flag.String("keep", "", "folder in which the programs stay, to be used again; empty: a temporary one")
	flag.Parse()
	ok, err := matrix(strings.Split(*toolchains, ","), *only, *run, *out, *keep)
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}

func matrix(toolchains []string, only string, run time.Duration, out, keep string) (ok bool, err error) {
	ways := variants
	if only != "" {
		ways = nil
		for name := range strings.SplitSeq(only, ",") {
			v, err := variantNamed(name)
			if err != nil {
				return false, err
			}
			ways = append(ways, v)
		}
	}
	dir := keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "pscope-matrix"); err != nil {
			return false, err
		}
		defer os.RemoveAll(dir)
	}
	// The programs are built by commands that run in another folder.
	if dir, err = filepath.Abs(dir); err != nil {
		return false, err
	}
	var rows []row
	for _, toolchain := range toolchains {
		var here []*row
		paths := map[*row]string{}
		for _, arch := range []string{"amd64", "arm64"} {
			for _, v := range ways {
				r := &row{Go: toolchain, Arch: arch, Variant: v.name}
				path, err := r.file(dir, toolchain, arch, v)
				if err != nil {
					r.Complaints = append(r.Complaints, err.Error())
				} else if arch == runtime.GOARCH {
					paths[r] = path
				}
				here = append(here, r)
			}
		}
		if err := watch(paths, run); err != nil {
			return false, err
		}
		for _, r := range here {
			rows = append(rows, *r)
			fmt.Println(r.line())
		}
	}
	ok = true
	for i := range rows {
		ok = ok && len(rows[i].Complaints) == 0
	}
	if out == "" {
		return ok, nil
	}
	return ok, write(out, rows)
}

// file builds the program, and its twin, and looks at what the files say.
func (r *row) file(dir, toolchain, arch string, v variant) (path string, err error) {
	if path, err = build(dir, toolchain, arch, v); err != nil {
		return "", err
	}
	twin := path
	if v.twin != "" {
		t, err := variantNamed(v.twin)
		if err != nil {
			return "", err
		}
		if twin, err = build(dir, toolchain, arch, t); err != nil {
			return "", err
		}
	}
	b, complaints, err := checkFile(path, twin)
	if err != nil {
		return "", err
	}
	r.Layout, r.PIE, r.Cgo, r.TLSG, r.Complaints = string(b.LayoutSource), b.PIE, b.Cgo, b.TLSG, complaints
	return path, nil
}

var header = []string{"Go", "arch", "built", "layout", "on a CPU: Ps / threads that had one / all threads",
	"Σ states off wall", "collections: runtime / stops", "result"}

func (r *row) cells() []string {
	c := []string{r.Go, r.Arch, r.Variant, r.Layout, "not run here", "", "", "holds"}
	if l := r.Live; l != nil {
		c[4] = fmt.Sprintf("%.0f / %.0f / %.0f ms", l.OnCPUMs, l.CarriersMs, l.ThreadsMs)
		c[5] = fmt.Sprintf("%.3f %%", l.WallErrorPercent)
		c[6] = fmt.Sprintf("%d / %d", l.Collections, l.SweepStops)
	}
	if len(r.Complaints) > 0 {
		c[7] = strings.Join(r.Complaints, "; ")
	}
	return c
}

func (r *row) line() string {
	c := r.cells()
	return fmt.Sprintf("%-8s %-6s %-13s %-6s %-24s %-8s %-9s %s", c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7])
}

func write(dir string, rows []row) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "matrix.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# Every Go line, every way to link\n\nMade by `go run ./bench/matrix` (see there for what each " +
		"check is).\n\n")
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat(" --- |", len(header)))
	for i := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(rows[i].cells(), " | "))
	}
	return os.WriteFile(filepath.Join(dir, "matrix.md"), []byte(b.String()), 0o644)
}
