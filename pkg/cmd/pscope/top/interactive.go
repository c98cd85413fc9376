//go:build linux

package top

import (
	"context"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
	text "github.com/charmbracelet/x/ansi"
)

// interactive takes over the terminal.
func interactive(ctx context.Context, w *watcher, o options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ch := make(chan news)
	go w.run(ctx, ch)
	m := &model{board: newBoard(), news: ch, view: view{order: o.order, paint: unpainted}}
	if o.colour {
		m.view.paint = ansi
	}
	_, err := tea.NewProgram(m, tea.WithContext(ctx)).Run()
	if ctx.Err() != nil {
		return nil // asked to end by a signal
	}
	return err
}

// model is the screen's state.
type model struct {
	board  *board
	news   <-chan news
	view   view
	paused bool
	help   bool
	w, h   int
}

func (m *model) Init() tea.Cmd { return m.next }

// next waits for the next message of the stream.
func (m *model) next() tea.Msg { return <-m.news }

func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case news:
		if msg.err != nil {
			m.view.status = msg.err.Error() + "; trying again"
		} else if !m.paused {
			if msg.message != nil {
				m.view.status = ""
			}
			m.board.take(msg)
		}
		return m, m.next
	case tea.WindowSizeMsg:
		m.w, m.h = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.press(msg.String())
	}
	return m, nil
}

func (m *model) press(k string) tea.Cmd {
	switch k {
	case "q", "ctrl+c":
		return tea.Quit
	case "esc":
		m.view.only, m.view.selected, m.help = false, key{}, false
	case "down", "j":
		m.move(+1)
	case "up", "k":
		m.move(-1)
	case "enter":
		m.view.only = !m.view.only && m.view.selected != key{}
	case "s":
		all := orders()
		m.view.order = all[(slices.Index(all, m.view.order)+1)%len(all)]
	case "p", "space":
		m.paused = !m.paused
	case "?", "h":
		m.help = !m.help
	}
	return nil
}

// move selects the next or the one before of the targets in their present order.
func (m *model) move(by int) {
	ts := m.board.sorted(m.view.order)
	if len(ts) == 0 {
		return
	}
	i := slices.IndexFunc(ts, func(t *target) bool { return t.key == m.view.selected })
	switch {
	case i < 0 && by > 0:
		i = 0
	case i < 0:
		i = len(ts) - 1
	default:
		i = min(max(i+by, 0), len(ts)-1)
	}
	m.view.selected = ts[i].key
}

const helpText = `
  state    what the P does: running, gc (a mark worker), syscall, idle, gcstop (halted by a stop of the world)
  since    how long it has been so
  thread   the kernel's state of the thread that carries the P; uninterruptible is D
  runq     goroutines in the P's own queue; "queued" is the global queue
  busy     share of the last 2 s in running, gc and syscall, neither stopped nor frozen
  D        share of the last 2 s in which a thread with this P was in uninterruptible sleep
  waits    share of the last 2 s in which the P's thread was ready but had no CPU
`

func (m *model) View() tea.View {
	v := m.view
	v.width, v.height = m.w, m.h
	if m.h > 0 {
		v.height = m.h - 2
	}
	if m.help {
		v.height = max(v.height-strings.Count(helpText, "\n"), 3)
	}
	lines := m.board.lines(v)
	lines = append([]string{lines[0], v.paint(quietColour, heading())}, lines[1:]...)
	if m.help {
		lines = append(lines, strings.Split(strings.Trim(helpText, "\n"), "\n")...)
	}
	for m.h > 0 && len(lines) < m.h-1 {
		lines = append(lines, "")
	}
	keys := "q quit  ↑↓ select  ⏎ only this one  esc all  s sort: " + string(v.order) + "  p pause  ? help"
	if m.paused {
		keys = "PAUSED  " + keys
	}
	lines = append(lines, v.paint(quietColour, keys))
	for i := range lines {
		lines[i] = text.Truncate(lines[i], max(m.w, 20), "…")
	}
	screen := tea.NewView(strings.Join(lines, "\n"))
	screen.AltScreen = true
	return screen
}
