//go:build linux

package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/collector"
)

// reloader reads the configuration file again when it is told to. A file that is wrong changes nothing.
type reloader struct {
	log     *slog.Logger
	apply   func(*Config)  // takes up the settings in reloadable
	hangups chan os.Signal // SIGHUP, from the start on

	mu      sync.Mutex
	running *Config   // the settings in use, but for those in reloadable as the agent was started
	taken   *Config   // the settings as they were read last
	at      time.Time // of the last reading that succeeded
	wrong   error     // of the last reading; nil: it succeeded
}

// newReloader takes up what comes on the configuration's hangups. Without a file there is nothing to read: then SIGHUP
// ends the agent, as Run has it.
func newReloader(c *Config, log *slog.Logger, apply func(*Config)) *reloader {
	return &reloader{log: log, apply: apply, hangups: c.hangups, running: c, taken: c, at: time.Now()}
}

// run reloads on every SIGHUP until ctx is done.
func (r *reloader) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.hangups:
			r.reload()
		}
	}
}

// reload reads the file, with the flags that the agent was started with.
func (r *reloader) reload() {
	next, err := ParseConfig(r.running.args, io.Discard)
	wrong, _ := err.(Problems) // ParseConfig has no other
	if err == nil {
		wrong = next.inspectFiles(nil).fatal()
	}
	if err = nil; len(wrong) > 0 {
		err = wrong.withoutValues() // others read the log and what the agent answers
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = err
	if err != nil {
		r.log.Error("the configuration can't be used; the settings before stay in use", "file", r.running.File, "err",
			err,
			"next", "correct it, see 'pscope agent --check', and reload again")
		return
	}
	changed := differing(r.taken, next, reloadable)
	r.taken, r.at = next, time.Now()
	r.apply(next)
	r.log.Info("the configuration was read again", "file", r.running.File, "changed", strings.Join(changed, ", "))
	if waiting := r.waiting(); len(waiting) > 0 {
		r.log.Warn("some settings that have changed need a restart", "settings", strings.Join(waiting, ", "))
	}
}

// differing are the settings among these that two configurations have of different values.
func differing(a, b *Config, among []string) (names []string) {
	for _, name := range among {
		if a.values[name] != b.values[name] {
			names = append(names, name)
		}
	}
	return names
}

// waiting are settings that a restart would change; r.mu is held.
func (r *reloader) waiting() []string {
	fixed := slices.DeleteFunc(slices.Sorted(maps.Keys(r.running.values)),
		func(name string) bool { return slices.Contains(reloadable, name) })
	return differing(r.running, r.taken, fixed)
}

// lacks says what is wrong with the file, or waits for a restart.
func (r *reloader) lacks() []collector.Lack {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrong != nil {
		return []collector.Lack{{What: "settings of the configuration file",
			Why: fmt.Sprintf("%s can't be used, so the settings before stay in use: %s", r.running.File,
				oneLine(r.wrong)),
			Fix: "correct it, see 'pscope agent --check --config " + r.running.File + "', and reload again"}}
	}
	if waiting := r.waiting(); len(waiting) > 0 {
		return []collector.Lack{{What: "settings that have changed", Why: "they need a restart: " +
			strings.Join(waiting, ", "), Fix: "restart the agent"}}
	}
	return nil
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// self gives the metrics, by name; none without a file.
func (r *reloader) self() map[string]float64 {
	if r.running.File == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ok := 1.0
	if r.wrong != nil {
		ok = 0
	}
	return map[string]float64{
		"pscope_config_last_reload_successful":                ok,
		"pscope_config_last_reload_success_timestamp_seconds": float64(r.at.UnixMilli()) / 1000,
	}
}
