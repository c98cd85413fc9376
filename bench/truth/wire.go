package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/exp/trace"
)

// wired is an event of the trace as a thread wrote it.
type wired struct {
	at   trace.Time
	name string
	p    int64 // of ProcStart and ProcSteal; -1: it does not say
}

// wire has the times at which threads wrote the events that matter here, as they stand in the file. The reader of
// traces (golang.org/x/exp/trace, Reader.ReadEvent) moves an event that comes after another in its order, but has an
// earlier time, to that other's time, and all that follow with it: on a busy host, where a thread may lose its CPU
// between an event and the look at the clock for it, by tens of milliseconds.
type wire struct {
	events     map[trace.ThreadID][]wired // by thread, in order
	begin, end trace.Time                 // of the window: what the workload logged first and last
}

// readWire reads a trace with go tool trace, which is the one public way to the file's own times.
func readWire(path, tool string) (*wire, error) {
	cmd := exec.Command("go", "tool", "trace", "-d=wire", path)
	if tool != "" {
		cmd = exec.Command(tool, "-d=wire", path)
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w := &wire{events: map[trace.ThreadID][]wired{}}
	var ticks, perSecond uint64
	var m trace.ThreadID
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line, passed := lines.Bytes(), uint64(0)
		name, rest, _ := bytes.Cut(line, []byte(" "))
		switch string(name) {
		case "EventBatch":
			id, _ := strconv.ParseUint(argument(rest, "m="), 10, 64)
			m = trace.ThreadID(id)
			ticks, _ = strconv.ParseUint(argument(rest, "time="), 10, 64)
			continue
		case "Frequency":
			perSecond, _ = strconv.ParseUint(argument(rest, "freq="), 10, 64)
			continue
		}
		after, timed := bytes.CutPrefix(rest, []byte("dt="))
		if !timed {
			continue
		}
		for _, digit := range after {
			if digit < '0' || digit > '9' {
				break
			}
			passed = 10*passed + uint64(digit-'0')
		}
		ticks += passed
		if perSecond == 0 {
			continue
		}
		at := trace.Time(float64(ticks) * (1e9 / float64(perSecond)))
		switch string(name) {
		case "UserLog":
			if w.begin == 0 {
				w.begin = at
			}
			w.end = at
		case "ProcStart", "ProcStop", "ProcSteal", "STWBegin", "STWEnd":
			p, err := strconv.ParseInt(argument(rest, "p="), 10, 64)
			if err != nil {
				p = -1
			}
			w.events[m] = append(w.events[m], wired{at, string(name), p})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("go tool trace: %w", err)
	}
	if w.begin >= w.end {
		return nil, fmt.Errorf("the trace does not have the two logs between which it is compared")
	}
	return w, nil
}

// argument is the value after a name in a line; empty if it is not there.
func argument(line []byte, name string) string {
	for _, f := range strings.Fields(string(line)) {
		if v, ok := strings.CutPrefix(f, name); ok {
			return v
		}
	}
	return ""
}

// next gives the time at which a thread wrote its next event of one of these names, of this P or without one; otherwise
// if it wrote none.
func (w *wire) next(m trace.ThreadID, p int64, otherwise trace.Time, names ...string) trace.Time {
	for i, e := range w.events[m] {
		if slices.Contains(names, e.name) && (e.p == p || e.p == -1) {
			w.events[m] = w.events[m][i+1:] // of those before it the reader made nothing
			return e.at
		}
	}
	return otherwise
}
