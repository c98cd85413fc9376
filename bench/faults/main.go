//go:build linux

// Command faults lets happen to a running agent what happens to agents, and measures how much history was lost, how
// long nothing was shown, and whether anything was said that is not so. Run it as root.
package main

import (
	"encoding/json"
	"errors"
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

// options are the command line.
type options struct {
	times        int
	only, not    string
	load         int
	churn        time.Duration
	programs     string // a directory with the programs, already built
	guest, merge bool
	add          string
	remarks      string
	out          string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == spawnWord {
		if err := spawn(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.IntVar(&o.times, "times", 5, "how often each fault happens")
	flag.StringVar(&o.only, "only", "", "faults whose name has one of these in it, separated by |")
	flag.StringVar(&o.not, "not", "", "leave out faults whose name has one of these in it, separated by |")
	flag.IntVar(&o.load, "load", 2, "busy processes beside")
	flag.DurationVar(&o.churn, "churn", 2*time.Minute, "how long programs come and go in the fault of that name")
	flag.StringVar(&o.programs, "programs", "", "`directory` with workload and pscope, built already: for a guest, "+
		"which has no Go")
	flag.BoolVar(&o.guest, "guest", false, "this is a guest: only faults that set the machine's clock")
	flag.BoolVar(&o.merge, "merge", false, "leave the rows of faults.json that are not run as they are")
	flag.StringVar(&o.add, "add", "", "`file` whose last line are the rows of another run, as a guest prints them: "+
		"put them among the results")
	flag.StringVar(&o.remarks, "remarks", "", "what the machine did beside, for the results")
	flag.StringVar(&o.out, "out", "", "`directory` for faults.md and faults.json; -: print faults.json as the last "+
		"line; empty: print only")
	flag.Parse()
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	r := &results{}
	if o.merge && o.out != "" {
		text, err := os.ReadFile(filepath.Join(o.out, "faults.json"))
		if err == nil {
			err = json.Unmarshal(text, r)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	r.Machine = report.ThisMachine()
	if o.remarks != "" {
		r.Remarks = o.remarks
	}
	if o.add != "" {
		if err := r.addRows(o.add); err != nil {
			return err
		}
	}
	// What was measured is kept also when a later fault can't be brought about.
	err := r.all(o)
	if o.out == "-" {
		line, jerr := json.Marshal(r.Rows)
		fmt.Printf("%s\n", line)
		return errors.Join(err, jerr)
	}
	fmt.Print(r.markdown())
	if o.out != "" {
		err = errors.Join(err, r.write(o.out))
	}
	return err
}

// addRows takes the rows that another run printed as its last line.
func (r *results) addRows(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var rows []*row
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &rows); err != nil {
		return fmt.Errorf("the last line of %s holds no rows: %w", file, err)
	}
	for _, x := range rows {
		r.put(x)
	}
	return nil
}

func (r *results) write(dir string) error { return report.Write(dir, "faults", r.markdown(), r) }

// hasAny says whether a name has one of the words in it; without words: none.
func hasAny(name, words string) bool {
	return words != "" && slices.ContainsFunc(strings.Split(words, "|"),
		func(w string) bool { return strings.Contains(name, w) })
}

func (r *results) all(o *options) error {
	dir, err := os.MkdirTemp("", "pscope-faults")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, pkg := range map[string]string{"workload": processes.Workload, "pscope": processes.Pscope,
		"gpx_pscope": "pkg"} {
		file := filepath.Join(dir, name)
		if o.programs == "" {
			err = processes.Build(file, pkg)
		} else if _, serr := os.Stat(filepath.Join(o.programs, name)); serr == nil {
			err = os.Symlink(filepath.Join(o.programs, name), file)
		}
		if err != nil {
			return err
		}
	}
	stop, err := processes.Burn(o.load)
	if err != nil {
		return err
	}
	defer stop()
	var failed error
	for _, f := range faults(o.churn) {
		if f.guest != o.guest || o.only != "" && !hasAny(f.name, o.only) || hasAny(f.name, o.not) {
			continue
		}
		x := &row{Fault: f.name, Beside: o.load, Guest: o.guest}
		for n := range o.times {
			if f.once && n > 0 {
				break
			}
			load := loadNow()
			out, err := f.happen(dir)
			if errors.Is(err, errNotHere) {
				x.Missing = err.Error()
				break
			}
			if err != nil {
				// The others still tell something.
				failed = errors.Join(failed, fmt.Errorf("%s: %w", f.name, err))
				x.Failed++
				fmt.Fprintf(os.Stderr, "faults: %s: %v\n", f.name, err)
				continue
			}
			out.Load = load
			x.Times = append(x.Times, *out)
		}
		r.put(x)
		fmt.Fprintln(os.Stderr, x)
		if o.out != "" && o.out != "-" {
			if err := r.write(o.out); err != nil {
				return err
			}
		}
	}
	return failed
}

// loadNow is the machine's load of the last minute; 0: not known.
func loadNow() (load float64) {
	text, _ := os.ReadFile("/proc/loadavg")
	_, _ = fmt.Sscan(string(text), &load)
	return load
}
