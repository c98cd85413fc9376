//go:build linux

// Package agent is the subcommand "agent": it wires collector, timeline, store and server, and keeps going with what
// works.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/p-scope/p-scope/pkg/api"
	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/cpufreq"
	freqkern "github.com/p-scope/p-scope/pkg/cpufreq/kern"
	"github.com/p-scope/p-scope/pkg/history"
	"github.com/p-scope/p-scope/pkg/internal/confine"
	"github.com/p-scope/p-scope/pkg/internal/loglimit"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/store"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// Run gives the subcommand "agent" of the given version. It serves until its context ends.
func Run(version string) func(ctx context.Context, args []string) (int, error) {
	return func(ctx context.Context, args []string) (int, error) {
		c, err := ParseConfig(args, os.Stderr)
		if c != nil && c.Check {
			return check(c, err, os.Stdout), nil
		}
		if err != nil {
			found, _ := err.(Problems) // ParseConfig has no other, and that of help
			return 2, unlessTerminal(err, func() error {
				if found == nil {
					return err
				}
				return found.withoutValues()
			})
		}
		if c.File != "" {
			// From now on and for as long as the process lives: what comes while the agent starts is taken up when it
			// has started, and what comes while it ends does not kill it.
			c.hangups = make(chan os.Signal, 1)
			signal.Notify(c.hangups, syscall.SIGHUP)
		}
		level := new(slog.LevelVar)
		c.setLevel = level.Set
		level.Set(c.LogLevel)
		last := &lastLog{}
		c.lastLog, c.logTo = last.String, c.cleaned(io.MultiWriter(os.Stderr, last))
		limited := loglimit.New(slog.NewTextHandler(c.logTo, &slog.HandlerOptions{Level: level}))
		defer limited.Flush()
		log := slog.New(limited)
		c.folded = limited.Folded
		if c.File == "" && !signal.Ignored(syscall.SIGHUP) {
			// There is nothing to reload: the signal is that of a terminal that was closed.
			var stop context.CancelFunc
			ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
			defer stop()
		}
		limitMemory(c.MemoryLimit - historyMemory(c.MemoryLimit))
		if err := relaxTimers(); err != nil {
			log.Debug("timers are as exact as they come", "why", err)
		}
		if c.UntilStdinCloses {
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			defer cancel()
			go func() {
				_, _ = io.Copy(io.Discard, os.Stdin)
				cancel()
			}()
		}
		if err := serve(ctx, c, version, log); err != nil {
			return 1, unlessTerminal(err, func() error { return errors.New(c.withoutValues(err.Error())) })
		}
		return 0, nil
	}
}

// historyMemory is the part of the memory limit that is the history's, a process of its own: five eighths.
func historyMemory(limit int64) int64 { return limit / 8 * 5 }

// limitMemory keeps the agent small beside what it observes. The environment's GOMEMLIMIT wins.
func limitMemory(memory int64) {
	if os.Getenv("GOMEMLIMIT") == "" && memory > 0 {
		debug.SetMemoryLimit(memory)
	}
}

func serve(ctx context.Context, c *Config, version string, log *slog.Logger) error {
	o := api.Options{
		Version: version, Host: c.Host, Log: log,
		Listen: c.Listen, AllowOrigins: c.AllowOrigins,
		Socket: c.Socket, SocketMode: c.SocketMode, SocketGroup: c.SocketGroup,
		Attend: newWidth().attend, LastLog: c.lastLog,
	}
	// What protects the agent must be right before anything is opened: it never falls back to less.
	if err := secure(c, &o, log); err != nil {
		return err
	}

	o.Timeline = timeline.New(timeline.Options{MaxBytes: c.IntervalMemory})
	col, err := collector.New(collector.Options{
		Mode: c.Mode, Include: c.Include, Exclude: c.Exclude, Sink: o.Timeline, Log: log,
		SnapshotEvery: c.SnapshotEvery, SampleHz: c.SampleHz, MaxPs: c.MaxPs, MaxThreads: c.MaxThreads,
		CostBudget: budget(c.CostBudget), Migrations: c.Migrations, ShowArguments: c.ShowArguments,
	})
	if err != nil {
		return err
	}
	own := &withLacks{Collector: col}
	o.Collector = own
	var server *api.Server // set before anything is reloaded
	reloads := newReloader(c, log, func(next *Config) { takeUp(next, c, col, server, own) })
	own.config = reloads
	o.Self = func() map[string]float64 { return own.self(c) }
	if c.Insecure && api.CheckAccess(c.Listen, o.Token != nil, c.TLSClientCA != "", false) != nil {
		own.lack(lack.Unprotected(c.Listen))
	}

	if changes := followFrequencies(c.Mode, log); changes != nil {
		o.FrequencyChanges = changes
		defer changes.Close()
	}

	server, err = bindWithHistory(&o, c, version, log, own)
	if err != nil {
		return err
	}

	if !c.KeepPrivileges {
		own.giveUp(c, log)
	}

	// The collector goes on until the server has answered its last request and the store has written its last sample.
	collecting, stopCollecting := context.WithCancel(context.Background())
	defer stopCollecting()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var collectErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		if collectErr = col.Run(collecting); collectErr != nil {
			cancel() // nothing can be observed: there is nothing to serve
		}
	})
	wg.Go(func() { reloads.run(ctx) })
	info := col.Agent()
	log.Info("observing", "version", version, "mode", info.Mode, "kernel", info.Kernel, "listen", addr(server),
		"socket", o.Socket)
	err = server.Serve(ctx)
	stopCollecting()
	cancel()
	wg.Wait()
	log.Info("stopped")
	return errors.Join(collectErr, err)
}

// takeUp makes the running agent follow the settings in reloadable. c is as it was started.
func takeUp(next, c *Config, col collector.Collector, server *api.Server, own *withLacks) {
	if c.setLevel != nil {
		c.setLevel(next.LogLevel)
	}
	own.history.SetLogLevel(next.LogLevel)
	server.SetAllowOrigins(next.AllowOrigins)
	if chooser, ok := col.(collector.Chooser); ok {
		chooser.Choose(next.Include, next.Exclude)
	}
}

// followFrequencies attaches to the changes of CPU frequency where the kernel keeps no times itself. nil: there is
// nothing to follow, or it can't be followed; then the frequencies are only read, as /metrics needs them.
func followFrequencies(mode collector.Mode, log *slog.Logger) *freqkern.Follower {
	present, needed := cpufreq.NewReader("/sys").Present()
	if mode == collector.ModeSnapshot || !needed {
		return nil
	}
	f, err := freqkern.Follow(present)
	if err != nil {
		log.Info("CPU frequencies are read once a second, their changes in between are not seen", "why", err)
		return nil
	}
	return f
}

// budget is a setting in percent, 0 for no limit, as the collector takes it.
func budget(percent float64) float64 {
	if percent == 0 {
		return -1
	}
	return percent / 100
}

func addr(s *api.Server) string {
	if a := s.Addr(); a != nil {
		return a.String()
	}
	return ""
}

// secure reads token and certificates, and sees whether the address may be served on with them.
func secure(c *Config, o *api.Options, log *slog.Logger) (err error) {
	o.Insecure = c.Insecure
	if c.TokenFile != "" {
		if o.Token, err = api.LoadToken(c.TokenFile, log); err != nil {
			return err
		}
	}
	if c.TLSCert != "" {
		if o.TLS, err = api.LoadTLS(c.TLSCert, c.TLSKey, c.TLSClientCA, log); err != nil {
			return err
		}
	}
	return api.CheckAccess(c.Listen, c.TokenFile != "", c.TLSClientCA != "", c.Insecure)
}

// bindWithHistory starts the process that keeps the history, and binds socket and address.
func bindWithHistory(o *api.Options, c *Config, version string, log *slog.Logger, own *withLacks) (*api.Server, error) {
	so := store.Options{
		Dir: c.DataDir, Host: c.Host, Version: version,
		Interval: c.Interval, Retention: c.Retention, MaxBytes: c.RetentionSize, Log: log,
	}
	if so.MaxBytes == 0 {
		so.MaxBytes = -1 // no limit
	}
	if so.Host == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("the host's name is not known: %w; set it with --host", err)
		}
		so.Host = host
	}
	keeper := history.Start(history.Options{Store: so, MemoryLimit: historyMemory(c.MemoryLimit), LogLevel: c.LogLevel,
		Log: log, Stderr: c.logTo, Confine: !c.KeepPrivileges})
	o.Store = keeper
	own.history = keeper
	server, err := bind(o, log, own)
	if err != nil {
		keeper.Close()
		return nil, err
	}
	return server, nil
}

// bind takes socket and address, or the one of them that can be had; o says afterwards which.
func bind(o *api.Options, log *slog.Logger, own *withLacks) (*api.Server, error) {
	server, err := api.NewServer(*o)
	if err == nil || o.Listen == "" || o.Socket == "" {
		return server, err
	}
	socketOnly, addressOnly := *o, *o
	socketOnly.Listen, addressOnly.Socket = "", ""
	all := []error{err}
	for _, less := range []api.Options{socketOnly, addressOnly} {
		server, lessErr := api.NewServer(less)
		if lessErr == nil {
			log.Error("serving on one of two only", "err", err)
			own.lack(lack.SocketAndAddress(err))
			*o = less
			return server, nil
		}
		if lessErr.Error() != err.Error() {
			all = append(all, lessErr)
		}
	}
	return nil, errors.Join(all...)
}

// withLacks adds to what the collector lacks what the agent around it lacks.
type withLacks struct {
	collector.Collector
	history interface {
		Conditions() []store.Condition
		Measures() []confine.Measure
		SetLogLevel(slog.Level)
		Folded() uint64
	}
	config  *reloader         // set before anything asks
	givenUp []confine.Measure // set before anything asks
	mu      sync.Mutex
	lacks   []collector.Lack
}

func (w *withLacks) lack(l collector.Lack) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lacks = append(w.lacks, l)
}

// Agent implements collector.Collector.
func (w *withLacks) Agent() collector.AgentInfo {
	info := w.Collector.Agent()
	w.mu.Lock()
	defer w.mu.Unlock()
	info.Lacks = append(append([]collector.Lack(nil), info.Lacks...), w.lacks...)
	if w.config != nil {
		info.Lacks = append(info.Lacks, w.config.lacks()...)
	}
	if w.history != nil {
		for _, c := range w.history.Conditions() {
			info.Lacks = append(info.Lacks, collector.Lack{What: c.What, Why: c.Why, Fix: c.Fix})
		}
		info.GivenUp = append(slices.Clip(w.givenUp), w.history.Measures()...)
	}
	if w.config != nil {
		for i := range info.Lacks {
			info.Lacks[i].Why = w.config.running.withoutValues(info.Lacks[i].Why)
			info.Lacks[i].What = w.config.running.withoutValues(info.Lacks[i].What)
		}
	}
	return info
}

// self gives the metrics of the agent about itself that only this package knows.
func (w *withLacks) self(c *Config) map[string]float64 {
	out := w.config.self()
	if out == nil {
		out = map[string]float64{}
	}
	folded := w.history.Folded()
	if c.folded != nil {
		folded += c.folded()
	}
	out["pscope_log_messages_folded_total"] = float64(folded)
	return out
}

// giveUp drops what only the start needed. What was loaded, bound and opened by then stays.
func (w *withLacks) giveUp(c *Config, log *slog.Logger) {
	// The last one, where it is held, leads to libraries that were replaced since they were loaded
	// (/proc/<pid>/map_files).
	keep := []cap.Value{cap.BPF, cap.PERFMON, cap.SYS_PTRACE, cap.DAC_READ_SEARCH, cap.CHECKPOINT_RESTORE}
	if w.Collector.Agent().NeedsAdmin {
		keep = append(keep, cap.SYS_ADMIN)
	}
	// In directories of another user root needs this: to remove the socket at the end, and for the process that keeps
	// the history, which may have to be started again and has what its parent has at most.
	if c.Socket != "" && confine.Foreign(filepath.Dir(c.Socket)) || confine.Foreign(c.DataDir) {
		keep = append(keep, cap.DAC_OVERRIDE)
	}
	w.givenUp = confine.Agent(keep...)
	for _, m := range w.givenUp {
		level := slog.LevelDebug
		if !m.Holds {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "given up after the start", "what", m.Name, "holds", m.Holds, "detail",
			m.Detail)
	}
}
