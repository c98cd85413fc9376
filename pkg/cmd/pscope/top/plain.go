//go:build linux

package top

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// plain repaints the table in place on a terminal; elsewhere it prints one every 5 s.
func plain(ctx context.Context, w *watcher, o options, out io.Writer, tty bool) error {
	every := 5 * time.Second
	if tty {
		every = time.Second / time.Duration(max(1, min(o.rate, 10)))
		fmt.Fprint(out, "\x1b[?25l") // hide the cursor
		defer fmt.Fprint(out, "\x1b[?25h")
	}
	ch := make(chan news)
	go w.run(ctx, ch)
	tick := time.NewTicker(every)
	defer tick.Stop()
	b, status, painted := newBoard(), "", 0
	for {
		select {
		case n := <-ch:
			if n.err != nil {
				status = n.err.Error() + "; trying again"
				continue
			}
			if n.message != nil {
				status = ""
			}
			b.take(n)
		case <-tick.C:
			v := view{order: o.order, paint: unpainted, status: status}
			if !tty {
				if err := write(out, b, o, v); err != nil {
					return nil // the reader is gone
				}
				continue
			}
			v.width, v.height = screen()
			// Everything above the table stays: it moves up by its own lines only, and never fills the window.
			v.height = max(v.height-3, 5)
			if o.colour {
				v.paint = ansi
			}
			painted = repaint(out, b, v, painted)
		case <-ctx.Done():
			return nil
		}
	}
}

// repaint draws over the table drawn before, which was painted lines high, and gives the new height.
func repaint(out io.Writer, b *board, v view, painted int) int {
	lines := b.lines(v)
	lines = append([]string{lines[0], v.paint(quietColour, heading())}, lines[1:]...)
	var s strings.Builder
	s.WriteString("\x1b[?7l") // a line too long for the window must not wrap: the next repaint counts lines
	if painted > 0 {
		fmt.Fprintf(&s, "\x1b[%dF", painted)
	}
	for _, l := range lines {
		s.WriteString("\x1b[2K" + l + "\n")
	}
	s.WriteString("\x1b[J\x1b[?7h")
	_, _ = io.WriteString(out, s.String())
	return len(lines)
}

// screen is the size of the terminal in columns and lines; 100 × 40 when it does not say.
func screen() (width, height int) {
	ws, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Col == 0 {
		return 100, 40
	}
	return int(ws.Col), int(ws.Row)
}

// ansi paints with 24-bit colours.
func ansi(colour, text string) string {
	var r, g, b uint8
	if _, err := fmt.Sscanf(colour, "#%02x%02x%02x", &r, &g, &b); err != nil {
		return text
	}
	return fmt.Sprintf("\x1b[38;2;%d;%d;%dm%s\x1b[39m", r, g, b, text)
}
