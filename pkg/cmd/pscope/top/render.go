//go:build linux

package top

import (
	"fmt"
	"strings"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// painter turns text into coloured text; a plain one leaves it as it is. colour is "#RRGGBB".
type painter func(colour, text string) string

func unpainted(_, text string) string { return text }

// The colours are those of Grafana's panels, readable for the colour-blind.
var stateColours = [pstate.NumStates]string{
	pstate.Running: "#009E73", pstate.GC: "#CC79A7", pstate.Syscall: "#56B4E9",
	pstate.Idle: "#7A7F87", pstate.GCStop: "#E69F00", pstate.Dead: "#3D4045",
}

var threadColours = [pstate.NumThreadStates]string{
	pstate.OnCPU: "#009E73", pstate.Runnable: "#F0E442", pstate.Sleeping: "#7A7F87",
	pstate.Uninterruptible: "#D55E00", pstate.Stopped: "#882255", pstate.Frozen: "#0072B2", pstate.NoThread: "#3D4045",
}

const (
	titleColour   = "#0072B2"
	warningColour = "#D55E00"
	quietColour   = "#7A7F87"
)

// barMarks show the states of a bar where there are no colours, too.
var barMarks = [pstate.NumStates]string{
	pstate.Running: "█", pstate.GC: "▓", pstate.Syscall: "▒", pstate.Idle: "·", pstate.GCStop: "!", pstate.Dead: " ",
}

const barWidth = 24

// view says what of a board is to be drawn, and how.
type view struct {
	order    order
	width    int  // columns; 0: no limit
	height   int  // lines; 0: no limit
	selected key  // marked target
	only     bool // draw the selected target alone
	paint    painter
	status   string // trouble to show, for example that the agent is gone
}

// legend explains the marks of a bar.
func legend(paint painter) string {
	var parts []string
	for _, s := range []pstate.State{pstate.Running, pstate.GC, pstate.Syscall, pstate.Idle, pstate.GCStop} {
		parts = append(parts, paint(stateColours[s], barMarks[s])+" "+s.String())
	}
	return strings.Join(parts, "  ")
}

// lines draws the board. The first line is a title; a target's lines follow one another, its summary first.
func (b *board) lines(v view) []string {
	var out []string
	add := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	title := "P-Scope"
	for _, t := range b.targets {
		title = "P-Scope on " + cleantext.Text(t.info.GetHost(), cleantext.MaxName)
		break // there is one host
	}
	title += fmt.Sprintf("  %s  %d observed", time.Unix(0, b.at).Format(time.TimeOnly), len(b.targets))
	if b.at == 0 {
		title = "P-Scope  waiting for the agent"
	}
	if b.refused > 0 {
		title += fmt.Sprintf(", %d refused ('pscope doctor' says why)", b.refused)
	}
	if n := b.lostTotal(); n > 0 {
		title += v.paint(warningColour, fmt.Sprintf("  %d updates skipped", n))
	}
	add("%s", v.paint(titleColour, title)+"   "+legend(v.paint))
	if v.status != "" {
		add("%s", v.paint(warningColour, cleantext.Text(v.status, cleantext.MaxReason)))
	}
	targets := b.sorted(v.order)
	if len(targets) == 0 && b.at != 0 {
		add("no Go process is observed here yet; start one, for example with 'pscope demo'")
	}
	for _, t := range targets {
		if v.only && t.key != v.selected {
			continue
		}
		out = append(out, t.lines(b.at, v)...)
	}
	if v.height > 0 && len(out) > v.height {
		cut := len(out) - v.height + 1
		out = append(out[:v.height-1],
			v.paint(quietColour, fmt.Sprintf("… %d more lines: make the window higher, or choose with --process", cut)))
	}
	return out
}

func (b *board) lostTotal() (n uint64) {
	for _, v := range b.lost {
		n += v
	}
	return n
}

func (t *target) lines(at int64, v view) []string {
	mark := " "
	if t.key == v.selected {
		mark = ">"
	}
	i := t.info
	head := fmt.Sprintf("%s %-20s pid %-7d %-9s", mark, cut(cleantext.Text(i.GetProcess(), cleantext.MaxName), 20),
		t.key.pid, cleantext.Text(i.GetGoVersion(), cleantext.MaxName))
	s := t.shares()
	head += fmt.Sprintf(" P=%-3d %s/%s  queued %s  busy %s", i.GetGomaxprocs(), i.GetSource(), i.GetLayout(),
		number(t.global), percent(s.busy(), s.known))
	var longest stop
	for _, st := range t.stops {
		if st.length > longest.length {
			longest = st
		}
	}
	if n := len(t.stops); n > 0 {
		head += fmt.Sprintf("  stops %d in %.0f s, longest %s (%s)", n, stopMemory.Seconds(), brief(longest.length),
			cleantext.Text(longest.reason, cleantext.MaxName))
	}
	out := []string{clip(head, v.width)}
	if t.key == v.selected {
		out[0] = v.paint(titleColour, out[0])
	}
	for _, p := range t.ps {
		if p.state == pstate.Dead {
			continue
		}
		out = append(out, p.line(at, v))
	}
	return out
}

// heading names the columns of a P's line.
func heading() string {
	return fmt.Sprintf("    %-4s %-8s %8s  %-15s %5s  %-*s %5s %5s %6s", "P", "state", "since", "thread", "runq",
		barWidth, "last 2 s", "busy", "D", "waits")
}

func (p *processor) line(at int64, v view) string {
	s := p.shares()
	since := "-"
	if p.since > 0 && at >= p.since {
		since = brief(time.Duration(at - p.since))
	}
	state := v.paint(stateColours[p.state], fmt.Sprintf("%-8s", p.state))
	thread := v.paint(threadColours[p.thread], fmt.Sprintf("%-15s", p.thread))
	d := fmt.Sprintf("%5s", percent(s.d, s.known))
	if s.known && s.d >= 0.05 {
		d = v.paint(warningColour, d)
	}
	return fmt.Sprintf("    P%-3d %s %8s  %s %5s  %s %5s %s %6s",
		p.p, state, since, thread, number(p.runq), bar(s, v.paint), percent(s.busy(), s.known), d,
		percent(s.thread[pstate.Runnable], s.known))
}

// bar draws the shares of the states, largest remainders rounded so that it is always barWidth wide.
func bar(s shares, paint painter) string {
	if !s.known {
		return strings.Repeat(" ", barWidth)
	}
	var b strings.Builder
	drawn, sum := 0, 0.0
	for _, st := range []pstate.State{pstate.Running, pstate.GC, pstate.Syscall, pstate.GCStop, pstate.Idle} {
		sum += s.state[st]
		upTo := min(int(sum*barWidth+0.5), barWidth)
		if n := upTo - drawn; n > 0 {
			b.WriteString(paint(stateColours[st], strings.Repeat(barMarks[st], n)))
			drawn = upTo
		}
	}
	b.WriteString(strings.Repeat(" ", barWidth-drawn))
	return b.String()
}

func percent(v float64, known bool) string {
	if !known {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", v*100)
}

func number(n int32) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// brief writes a duration in at most seven characters.
func brief(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%dns", d.Nanoseconds())
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// cut shortens a name to n characters.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// clip shortens an unpainted line to the width of the screen.
func clip(s string, width int) string {
	if width <= 0 {
		return s
	}
	return cut(s, width)
}
