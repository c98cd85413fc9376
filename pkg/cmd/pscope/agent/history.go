//go:build linux

package agent

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/p-scope/p-scope/pkg/history"
)

// History is the subcommand "history": the process that keeps the history of the agent that started it. It ends with that agent, however that one
// ends, so it leaves the signals of a terminal or a service manager to the agent.
func History(context.Context, []string) (int, error) {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	_ = relaxTimers() // as the agent does; without it all works just as well
	err := history.RunChild(history.ChildOptions{Attend: newWidth().attend, Log: func(level slog.Level) *slog.Logger {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	}})
	if err != nil {
		return 1, err
	}
	return 0, nil
}
