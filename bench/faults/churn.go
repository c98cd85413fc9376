//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const churnName = "programs come and go"

// level is what the agent and its history hold at some minute.
type level struct {
	Minute      float64 `json:"minute"`
	Memory      float64 `json:"anonymous_mb"` // of both processes
	Descriptors int     `json:"descriptors"`  // of both
	Threads     int     `json:"threads"`      // of both
	Mappings    int     `json:"mappings"`
	Maps        int     `json:"bpf_maps"`
	Programs    int     `json:"bpf_programs"`
	Links       int     `json:"bpf_links"`
}

// level reads it. Maps, programs and links of BPF are those that the agent has a descriptor of, as /proc/<pid>/fdinfo
// names them.
func (r *rig) level(since time.Time) level {
	l := level{Minute: time.Since(since).Minutes()}
	for _, pid := range []int{r.agent.Process.Pid, r.history()} {
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)) // the history may be starting
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		l.Descriptors += len(fds)
		l.Threads += len(tasks)
		l.Memory += float64(anonymous(pid)) / 1e6
	}
	maps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", r.agent.Process.Pid))
	l.Mappings = strings.Count(string(maps), "\n")
	infos, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", r.agent.Process.Pid)) // the pattern is well-formed
	for _, file := range infos {
		text, _ := os.ReadFile(file)
		switch {
		case strings.Contains(string(text), "link_id:"):
			l.Links++
		case strings.Contains(string(text), "map_id:"):
			l.Maps++
		case strings.Contains(string(text), "prog_id:"):
			l.Programs++
		}
	}
	return l
}

// slope is by how much a value grows an hour, by the line through all points with the least squares.
func slope(all []level, of func(l level) float64) float64 {
	var x, y, xx, xy float64
	n := float64(len(all))
	for _, l := range all {
		h, v := l.Minute/60, of(l)
		x, y, xx, xy = x+h, y+v, xx+h*h, xy+h*v
	}
	if d := n*xx - x*x; d > 0 {
		return (n*xy - x*y) / d
	}
	return 0
}

// comeAndGo starts five programs of 8 Ps a second that live a second each, and looks at the agent once a minute. What
// counts are the last three quarters: until then caches fill.
func comeAndGo(dir string, long time.Duration) (*outcome, error) {
	var levels []level
	o, err := during(dir, storage{}, func(r *rig) (string, error) {
		begun := time.Now()
		look := begun.Add(min(time.Minute, long/10))
		for time.Since(begun) < long {
			c := exec.Command(filepath.Join(dir, "workload"), "-procs", "8", "-warm", "0s", "-run", "1s", "sleepers")
			if c.Start() == nil {
				go func() { _ = c.Wait() }()
			}
			time.Sleep(200 * time.Millisecond)
			if time.Now().After(look) {
				levels = append(levels, r.level(begun))
				look = look.Add(min(time.Minute, long/10))
			}
			if !r.runs() {
				return "", fmt.Errorf("the agent ended after %v; its log is %s", time.Since(begun), r.log.Name())
			}
		}
		time.Sleep(5 * time.Second) // what ended last is taken down
		levels = append(levels, r.level(begun))
		return "", nil
	})
	if err != nil {
		return nil, err
	}
	o.Levels = levels
	settled := levels[len(levels)/4:]
	first, last := settled[0], settled[len(settled)-1]
	per := func(of func(l level) float64) string {
		return fmt.Sprintf("%.1f, %.1f, %+.1f", of(first), of(last), slope(settled, of))
	}
	o.Note = fmt.Sprintf("five programs of 8 Ps a second for %.0f min; after a quarter, at the end, slope an hour: MB "+
		"anonymous %s; descriptors %s; "+
		"threads %s; mappings %s; BPF maps %s; programs %s; links %s", long.Minutes(),
		per(func(l level) float64 { return l.Memory }), per(func(l level) float64 { return float64(l.Descriptors) }),
		per(func(l level) float64 { return float64(l.Threads) }),
		per(func(l level) float64 { return float64(l.Mappings) }),
		per(func(l level) float64 { return float64(l.Maps) }),
		per(func(l level) float64 { return float64(l.Programs) }),
		per(func(l level) float64 { return float64(l.Links) }))
	return o, nil
}
