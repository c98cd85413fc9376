//go:build linux

// Command agent measures what `pscope agent` itself needs: its share of a core and its memory over time, with many
// processes, many Ps, and processes that come and go. Run it as root.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/p-scope/p-scope/bench/internal/processes"
	"github.com/p-scope/p-scope/bench/internal/report"
)

// scenario is a set of processes to observe.
type scenario struct {
	Name      string `json:"name"`
	Processes int    `json:"processes"`
	Procs     int    `json:"gomaxprocs"`
	Load      string `json:"load"`
	Churn     int    `json:"started_a_second"` // further processes that live for a moment
	// what the agent is told of how much observing may cost; empty: nothing
	Budget string `json:"cost_budget,omitempty"`
	CPUBar float64
	RSSBar int64
}

var scenarios = []scenario{
	{Name: "10 × 8 Ps, idle", Processes: 10, Procs: 8, Load: "idle", CPUBar: 0.01, RSSBar: 100 << 20},
	{Name: "10 × 8 Ps, busy", Processes: 10, Procs: 8, Load: "sleepers", CPUBar: 0.01, RSSBar: 100 << 20},
	{Name: "10 × 8 Ps, busy, all of it observed", Processes: 10, Procs: 8, Load: "sleepers", Budget: "0", CPUBar: 0.01,
		RSSBar: 100 << 20},
	{Name: "100 × 8 Ps, idle", Processes: 100, Procs: 8, Load: "idle", RSSBar: 250 << 20},
	{Name: "1 × 256 Ps, busy", Processes: 1, Procs: 256, Load: "sleepers"},
	{Name: "churn", Processes: 2, Procs: 8, Load: "idle", Churn: 10},
}

// curve is what was seen of the agent in one scenario.
type curve struct {
	scenario
	CPU     report.Spread `json:"cpu_share"` // of one core, by second
	Mean    float64       `json:"cpu_mean"`  // over the whole run
	Points  []point       `json:"points"`
	Started int           `json:"started"`
	Seen    int           `json:"observed"` // targets that the agent observed at the end
}

// point is one look at the agent; memory in bytes.
type point struct {
	At   float64 `json:"at"` // seconds since the processes were there
	CPU  float64 `json:"cpu_share"`
	RSS  int64   `json:"rss"`
	PSS  int64   `json:"pss"`
	Anon int64   `json:"anonymous"`
}

// results is what agent.json holds.
type results struct {
	Machine report.Machine `json:"machine"`
	Run     string         `json:"run"`
	Curves  []*curve       `json:"curves"`
}

func main() {
	run := flag.Duration("run", time.Minute, "how long each scenario is watched")
	only := flag.String("only", "", "scenarios whose name has this in it")
	out := flag.String("out", "", "directory for agent.md and agent.json; empty: print only")
	log := flag.String("log", "", "write what the agent logs to this file")
	flag.Parse()
	r := &results{Machine: report.ThisMachine(), Run: run.String()}
	err := r.all(*run, *only, *log)
	text := r.markdown()
	fmt.Print(text)
	if err == nil && *out != "" {
		err = report.Write(*out, "agent", text, r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func (r *results) all(run time.Duration, only, log string) error {
	dir, err := os.MkdirTemp("", "pscope-agent")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, pkg := range map[string]string{"workload": processes.Workload, "pscope": processes.Pscope} {
		if err := processes.Build(filepath.Join(dir, name), pkg); err != nil {
			return err
		}
	}
	for _, s := range scenarios {
		if !strings.Contains(s.Name, only) {
			continue
		}
		c, err := watch(dir, s, run, log)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		r.Curves = append(r.Curves, c)
		fmt.Fprintln(os.Stderr, c.row())
	}
	return nil
}

// watch runs one scenario.
func watch(dir string, s scenario, run time.Duration, log string) (*curve, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	bin := filepath.Join(dir, "workload")
	var cmds []*exec.Cmd
	defer func() {
		cancel()
		for _, c := range cmds {
			_ = c.Wait()
		}
	}()
	start := func(life time.Duration) error {
		c := exec.CommandContext(ctx, bin, "-procs", fmt.Sprint(s.Procs), "-warm", "0s", "-run", life.String(), s.Load)
		if err := c.Start(); err != nil {
			return err
		}
		cmds = append(cmds, c)
		return nil
	}
	for range s.Processes {
		if err := start(24 * time.Hour); err != nil {
			return nil, err
		}
	}
	a, err := startAgent(dir, log, s.Budget)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	if err := a.waitFor(s.Processes); err != nil {
		return nil, err
	}
	c := &curve{scenario: s}
	begun := time.Now()
	first, err := a.look()
	if err != nil {
		return nil, err
	}
	last, lastAt := first, begun
	var shares []float64
	for time.Since(begun) < run {
		for range s.Churn {
			if err := start(200 * time.Millisecond); err != nil {
				return nil, err
			}
			c.Started++
		}
		time.Sleep(time.Second)
		now, at := last, time.Now()
		if now, err = a.look(); err != nil {
			return nil, err
		}
		p := point{
			At: at.Sub(begun).Seconds(), CPU: float64(now.cpu-last.cpu) / float64(at.Sub(lastAt)), RSS: now.rss,
			PSS: now.pss, Anon: now.anon,
		}
		shares = append(shares, p.CPU)
		c.Points = append(c.Points, p)
		last, lastAt = now, at
	}
	c.CPU, c.Mean = report.SpreadOf(shares), float64(last.cpu-first.cpu)/float64(lastAt.Sub(begun))
	c.Seen, err = a.observed()
	return c, err
}

func (c *curve) row() string {
	last := c.Points[len(c.Points)-1]
	most := int64(0)
	for _, p := range c.Points {
		most = max(most, p.RSS)
	}
	mb := func(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
	bars := ""
	if c.CPUBar > 0 {
		bars += fmt.Sprintf("≤ %.0f %% ", c.CPUBar*100)
	}
	if c.RSSBar > 0 {
		bars += "≤ " + mb(c.RSSBar)
	}
	return fmt.Sprintf("| %s | %.2f %% | %.2f (%.2f–%.2f) %% | %s | %s | %s | %s | %s |", c.Name, c.Mean*100,
		c.CPU.Median*100, c.CPU.Low*100, c.CPU.High*100,
		mb(c.Points[0].RSS), mb(most), mb(last.PSS), mb(last.Anon), bars)
}

func (r *results) markdown() string {
	var t strings.Builder
	fmt.Fprintf(&t, "# What the agent itself needs\n\n%s. Each watched for %s, once all processes are observed.\n",
		r.Machine, r.Run)
	fmt.Fprintf(&t, "Made by `go run ./bench/agent -out bench/results`, as root.\n\n")
	fmt.Fprintf(&t, "CPU time as a share of one core: over the whole run, and median (quartiles) by second, agent and "+
		"the process that keeps its history together. Busy: 64 sleepers in each process; observing that many "+
		"switches\n")
	fmt.Fprintf(&t, "of threads would pass the governor's budget, so that it leaves out much, unless it has none (all "+
		"of it observed). Churn: ten further processes\n")
	fmt.Fprintf(&t, "a second that live 0.5 s. The curves are in `agent.json`.\n\n")
	fmt.Fprintf(&t, "| processes | CPU, mean | by second | RSS at first | RSS, most | PSS at the end | anonymous | "+
		"bar |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, c := range r.Curves {
		fmt.Fprintln(&t, c.row())
	}
	return t.String()
}
