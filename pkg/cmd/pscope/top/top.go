//go:build linux

// Package top shows the Ps of the observed processes live in a terminal.
package top

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"connectrpc.com/connect"
	"github.com/mattn/go-isatty"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
	"github.com/p-scope/p-scope/pkg/pstate"
)

type options struct {
	agent   client.Options
	process string
	pid     int
	order   order
	once    bool
	plain   bool
	colour  bool
	rate    float64
}

// Run is the subcommand "top".
func Run(ctx context.Context, args []string) (int, error) {
	o, err := parse(args)
	if err != nil {
		return 2, err
	}
	c, err := o.agent.Dial()
	if err != nil {
		return 2, err
	}
	w := &watcher{client: c, agent: &o.agent, request: o.request()}
	tty := isatty.IsTerminal(os.Stdout.Fd())
	switch {
	case o.once:
		err = once(ctx, w, o, os.Stdout)
	case o.plain || !tty || !isatty.IsTerminal(os.Stdin.Fd()):
		err = plain(ctx, w, o, os.Stdout, tty)
	default:
		err = interactive(ctx, w, o)
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("pscope top", flag.ContinueOnError)
	o.agent.Register(fs)
	fs.StringVar(&o.process, "process", "", "only processes whose name matches this regular expression")
	fs.IntVar(&o.pid, "pid", 0, "only the process with this id")
	sortBy := fs.String("sort", string(byBusy), "order of the processes: busy, d, runq, stops or name")
	fs.BoolVar(&o.once, "once", false, "print the table once and end")
	fs.BoolVar(&o.plain, "plain", false, "repaint a plain table instead of taking over the terminal; so without a "+
		"terminal, too")
	fs.BoolVar(&o.colour, "colour", os.Getenv("NO_COLOR") == "", "use colours in a terminal")
	fs.Float64Var(&o.rate, "rate", 5, "updates per second, at most 60")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; all settings are flags, see --help", fs.Arg(0))
	}
	if _, err := regexp.Compile(o.process); err != nil {
		return o, fmt.Errorf("--process is no regular expression: %w", err)
	}
	if o.rate <= 0 || o.rate > 60 {
		return o, fmt.Errorf("--rate is %g; it must be above 0 and at most 60", o.rate)
	}
	for _, known := range orders() {
		if *sortBy == string(known) {
			o.order = known
		}
	}
	if o.order == "" {
		return o, fmt.Errorf("--sort is %q; choose busy, d, runq, stops or name", *sortBy)
	}
	return o, nil
}

func (o *options) request() *pscopev1.WatchRequest {
	s := &pscopev1.Selector{Process: o.process}
	if o.pid != 0 {
		s.Pids = []int32{int32(o.pid)}
	}
	return &pscopev1.WatchRequest{Selector: s, RateHz: o.rate}
}

// watcher reads the agent's stream and starts it again when it breaks.
type watcher struct {
	client  pscopev1connect.ScopeServiceClient
	agent   *client.Options
	request *pscopev1.WatchRequest
}

// news is one message of the stream, or the reason why there is none, or the number of processes that are not observed.
type news struct {
	message *pscopev1.WatchResponse
	err     error
	refused int
}

// run sends news until ctx ends. After an error it tries again, at first soon, then every 5 s; the first message after
// it is marked as a new start.
func (w *watcher) run(ctx context.Context, out chan<- news) {
	wait := 250 * time.Millisecond
	send := func(n news) bool {
		select {
		case out <- n:
			return true
		case <-ctx.Done():
			return false
		}
	}
	// The stream tells of observed processes only.
	go func() {
		for ctx.Err() == nil {
			list, err := w.client.ListTargets(ctx,
				connect.NewRequest(&pscopev1.ListTargetsRequest{Selector: w.request.GetSelector()}))
			if err == nil {
				refused := 0
				for _, t := range list.Msg.GetTargets() {
					if t.GetSource() == string(pstate.SourceRefused) {
						refused++
					}
				}
				send(news{refused: refused})
			}
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
			}
		}
	}()
	for ctx.Err() == nil {
		stream, err := w.client.Watch(ctx, connect.NewRequest(w.request))
		if err == nil {
			first := true
			for stream.Receive() {
				m := stream.Msg()
				m.Resync = m.Resync || first
				first = false
				wait = 250 * time.Millisecond
				if !send(news{message: m}) {
					break
				}
			}
			if err = stream.Err(); err == nil {
				err = errors.New("it has ended the stream")
			}
			_ = stream.Close()
		}
		if ctx.Err() != nil || !send(news{err: w.agent.Explain(err)}) {
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// once prints the table when shares over a second are known.
func once(ctx context.Context, w *watcher, o options, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ch := make(chan news)
	go w.run(ctx, ch)
	b := newBoard()
	var start time.Time
	for {
		select {
		case n := <-ch:
			if n.err != nil {
				return n.err
			}
			if start.IsZero() {
				start = time.Now()
			}
			b.take(n)
			if time.Since(start) >= time.Second {
				return write(out, b, o, view{order: o.order, paint: unpainted})
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func write(out io.Writer, b *board, o options, v view) error {
	lines := b.lines(v)
	text := lines[0] + "\n" + heading() + "\n"
	for _, l := range lines[1:] {
		text += l + "\n"
	}
	_, err := io.WriteString(out, text)
	return err
}
