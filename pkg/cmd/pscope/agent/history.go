//go:build linux

package agent

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/p-scope/p-scope/pkg/history"
	"github.com/p-scope/p-scope/pkg/internal/loglimit"
)

// History is the subcommand "history": the process that keeps the history of the agent that started it. It ends with
// that agent, however that one ends, so it leaves the signals of a terminal or a service manager to the agent. Its log
// goes through a pipe to the agent; where that has been killed, writing to it must not end the child while it closes
// the database.
func History(context.Context, []string) (int, error) {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	_ = relaxTimers() // as the agent does; without it all works just as well
	level := new(slog.LevelVar)
	limited := loglimit.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	defer limited.Flush()
	err := history.RunChild(history.ChildOptions{Attend: newWidth().attend, Folded: limited.Folded,
		Log: func(l slog.Level) *slog.Logger {
			level.Set(l)
			return slog.New(limited)
		}})
	if err != nil {
		return 1, err
	}
	return 0, nil
}
