// Package logs is the plugin's own log: Grafana's, limited in what one noisy cause can write to it. The lines that the
// plugin SDK writes of each request are its own, and Grafana's settings say which of them are kept.
package logs

import (
	"context"
	"log/slog"

	"github.com/grafana/grafana-plugin-sdk-go/backend/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/p-scope/p-scope/pkg/internal/loglimit"
)

var limited = loglimit.New(grafana{})

// Log is the plugin's log.
var Log = slog.New(limited)

// The metric comes with those that Grafana asks plugins for.
func init() {
	prometheus.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "pscope_plugin_log_messages_folded_total",
		Help: "Messages that the P-Scope plugin did not log one by one; its log gives their number, in a line for " +
			"each " +
			"kind and minute.",
	}, func() float64 { return float64(limited.Folded()) }))
}

// Flush tells of what was left out so far. Call it when the plugin ends.
func Flush() { limited.Flush() }

// grafana hands records to Grafana's logger, which has levels and keys of the same kind.
type grafana struct{ attrs []any }

func (grafana) Enabled(_ context.Context, l slog.Level) bool {
	return log.DefaultLogger.Level() == log.NoLevel || l >= levels[log.DefaultLogger.Level()]
}

var levels = map[log.Level]slog.Level{
	log.Trace: slog.LevelDebug - 4, log.Debug: slog.LevelDebug, log.Info: slog.LevelInfo,
	log.Warn: slog.LevelWarn, log.Error: slog.LevelError,
}

func (g grafana) Handle(_ context.Context, r slog.Record) error {
	args := append([]any{}, g.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		args = append(args, a.Key, a.Value.Any())
		return true
	})
	to := log.DefaultLogger.Debug
	switch {
	case r.Level >= slog.LevelError:
		to = log.DefaultLogger.Error
	case r.Level >= slog.LevelWarn:
		to = log.DefaultLogger.Warn
	case r.Level >= slog.LevelInfo:
		to = log.DefaultLogger.Info
	}
	to(r.Message, args...)
	return nil
}

func (g grafana) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := append([]any{}, g.attrs...)
	for _, a := range attrs {
		out = append(out, a.Key, a.Value.Any())
	}
	return grafana{out}
}

// WithGroup is not used here; Grafana's log knows no groups.
func (g grafana) WithGroup(string) slog.Handler { return g }
