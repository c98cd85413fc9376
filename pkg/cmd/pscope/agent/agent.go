//go:build linux

// Package agent is the subcommand "agent": it wires collector, timeline, store and server, and keeps going with what works.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/p-scope/p-scope/pkg/api"
	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/cpufreq"
	freqkern "github.com/p-scope/p-scope/pkg/cpufreq/kern"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/store"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// Run gives the subcommand "agent" of the given version. It serves until its context ends.
func Run(version string) func(ctx context.Context, args []string) (int, error) {
	return func(ctx context.Context, args []string) (int, error) {
		c, err := ParseConfig(args, os.Stderr)
		if err != nil {
			return 2, err
		}
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.LogLevel}))
		limitMemory(c.MemoryLimit)
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
			return 1, err
		}
		return 0, nil
	}
}

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
		Attend: newWidth().attend,
	}
	// What protects the agent must be right before anything is opened: it never falls back to less.
	if err := secure(c, &o); err != nil {
		return err
	}

	o.Timeline = timeline.New(timeline.Options{MaxBytes: c.IntervalMemory})
	col, err := collector.New(collector.Options{
		Mode: c.Mode, Include: c.Include, Exclude: c.Exclude, Sink: o.Timeline, Log: log,
		SnapshotEvery: c.SnapshotEvery, SampleHz: c.SampleHz, CostBudget: budget(c.CostBudget), Migrations: c.Migrations,
	})
	if err != nil {
		return err
	}
	own := &withLacks{Collector: col}
	o.Collector = own

	if changes := followFrequencies(c.Mode, log); changes != nil {
		o.FrequencyChanges = changes
		defer changes.Close()
	}

	var closeStore func()
	if o.Store, closeStore, err = openStore(c, version, log, own); err != nil {
		return err
	}
	defer closeStore()

	server, err := bind(&o, log, own)
	if err != nil {
		return err
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
	info := col.Agent()
	log.Info("observing", "version", version, "mode", info.Mode, "kernel", info.Kernel, "listen", addr(server), "socket", o.Socket)
	err = server.Serve(ctx)
	stopCollecting()
	wg.Wait()
	log.Info("stopped")
	return errors.Join(collectErr, err)
}

// followFrequencies attaches to the changes of CPU frequency where the kernel keeps no times itself. nil: there is nothing to follow, or it
// can't be followed; then the frequencies are only read, as /metrics needs them.
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

// secure reads token and certificates.
func secure(c *Config, o *api.Options) (err error) {
	if c.TokenFile != "" {
		token, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return fmt.Errorf("can't read the token: %w; name a readable file with --token-file", err)
		}
		if o.Token = strings.TrimSpace(string(token)); o.Token == "" {
			return fmt.Errorf("%s is empty; write a token into it, for example with 'openssl rand -hex 32'", c.TokenFile)
		}
	}
	if c.TLSCert != "" {
		o.TLS, err = api.LoadTLS(c.TLSCert, c.TLSKey, c.TLSClientCA)
	}
	return err
}

// openStore opens the history. Where the data directory can't be used it is kept in a temporary one until the agent ends.
func openStore(c *Config, version string, log *slog.Logger, own *withLacks) (*store.Store, func(), error) {
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
			return nil, nil, fmt.Errorf("the host's name is not known: %w; set it with --host", err)
		}
		so.Host = host
	}
	closer := func(s *store.Store, after func()) func() {
		return func() {
			if err := s.Close(); err != nil {
				log.Error("the history was not closed cleanly; it is repaired at the next start", "err", err)
			}
			after()
		}
	}
	s, err := store.Open(so)
	if err == nil {
		return s, closer(s, func() {}), nil
	}
	log.Error("the data directory can't be used; the history is kept in a temporary one and lost at the end", "err", err)
	own.lack(lack.LastingHistory(err))
	dir, tempErr := os.MkdirTemp("", "pscope-data-")
	if tempErr == nil {
		so.Dir = dir
		if s, tempErr = store.Open(so); tempErr == nil {
			return s, closer(s, func() { _ = os.RemoveAll(dir) }), nil
		}
		_ = os.RemoveAll(dir)
	}
	log.Error("not even a temporary directory can be used; there is no history", "err", tempErr)
	return nil, func() {}, nil
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
	mu    sync.Mutex
	lacks []collector.Lack
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
	return info
}
