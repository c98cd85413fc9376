package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend/grpcplugin"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
)

// Restart delays of a plugin process that keeps dying: doubled from the first to the last, back to the first once the
// process has lived for steadyAfter.
const (
	firstRestartDelay = 250 * time.Millisecond
	lastRestartDelay  = 5 * time.Second
	steadyAfter       = 10 * time.Second
)

// pluginClient holds the protocol clients of one life of the plugin process.
type pluginClient struct {
	data        grpcplugin.DataClient
	resource    grpcplugin.ResourceClient
	diagnostics grpcplugin.DiagnosticsClient
	stream      grpcplugin.StreamClient
}

// pluginHost runs the plugin binary over Grafana's plugin protocol and starts it again when it dies.
type pluginHost struct {
	path string
	env  []string
	log  *slog.Logger

	mu      sync.Mutex
	client  *pluginClient
	reason  error // why client is nil
	pid     int
	starts  int
	changed chan struct{} // closed and replaced whenever client changes
}

// newPluginHost prepares a host for the binary at path. Nothing runs before Run.
func newPluginHost(path string, env []string, log *slog.Logger) *pluginHost {
	return &pluginHost{path: path, env: env, log: log, reason: errors.New("it has not been started yet"),
		changed: make(chan struct{})}
}

// Run keeps the plugin alive until ctx ends, then stops it and returns once its process is gone.
func (h *pluginHost) Run(ctx context.Context) {
	delay := firstRestartDelay
	for ctx.Err() == nil {
		began := time.Now()
		err := h.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > steadyAfter {
			delay = firstRestartDelay
		}
		h.set(nil, 0, err)
		h.log.Warn("plugin is down, starting it again", "reason", err, "in", delay)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, lastRestartDelay)
	}
}

// runOnce starts the plugin and waits for its end or the end of ctx.
func (h *pluginHost) runOnce(ctx context.Context) error {
	if _, err := os.Stat(h.path); err != nil {
		return fmt.Errorf("the plugin binary is missing (%w): build it with `go tool mage build:backend`", err)
	}
	cmd := exec.Command(h.path)
	cmd.Env = h.env
	dieWithParent(cmd)
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  grpcplugin.ProtocolVersion,
			MagicCookieKey:   grpcplugin.MagicCookieKey,
			MagicCookieValue: grpcplugin.MagicCookieValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{grpcplugin.ProtocolVersion: {
			"data":        &grpcplugin.DataGRPCPlugin{},
			"resource":    &grpcplugin.ResourceGRPCPlugin{},
			"diagnostics": &grpcplugin.DiagnosticsGRPCPlugin{},
			"stream":      &grpcplugin.StreamGRPCPlugin{},
		}},
		Cmd: cmd,
		// Grafana hands its plugins neither PATH nor HOME: a plugin that leans on them must fail here too.
		SkipHostEnv:      true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           pluginLog(h.log),
	})
	// Kill asks the plugin to stop over the protocol and kills it when it does not within two seconds.
	defer client.Kill()

	rpc, err := client.Client()
	if err != nil {
		return fmt.Errorf("the plugin did not start: %w", err)
	}
	clients, err := dispense(rpc)
	if err != nil {
		return err
	}
	h.set(clients, client.ReattachConfig().Pid, nil)

	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			h.set(nil, 0, errors.New("the preview is stopping"))
			return ctx.Err()
		case <-ticker.C:
			if client.Exited() {
				return errors.New("its process ended")
			}
		}
	}
}

func dispense(rpc plugin.ClientProtocol) (*pluginClient, error) {
	var c pluginClient
	for name, assign := range map[string]func(any) bool{
		"data":        func(v any) (ok bool) { c.data, ok = v.(grpcplugin.DataClient); return },
		"resource":    func(v any) (ok bool) { c.resource, ok = v.(grpcplugin.ResourceClient); return },
		"diagnostics": func(v any) (ok bool) { c.diagnostics, ok = v.(grpcplugin.DiagnosticsClient); return },
		"stream":      func(v any) (ok bool) { c.stream, ok = v.(grpcplugin.StreamClient); return },
	} {
		raw, err := rpc.Dispense(name)
		if err != nil {
			return nil, fmt.Errorf("the plugin offers no %s service: %w", name, err)
		}
		if !assign(raw) {
			return nil, fmt.Errorf("the plugin's %s service has the type %T", name, raw)
		}
	}
	return &c, nil
}

func (h *pluginHost) set(c *pluginClient, pid int, reason error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.client, h.pid, h.reason = c, pid, reason
	if c != nil {
		h.starts++
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// Client returns the clients of the running plugin. While it is starting, Client waits up to wait for it.
func (h *pluginHost) Client(ctx context.Context, wait time.Duration) (*pluginClient, error) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		h.mu.Lock()
		client, reason, changed := h.client, h.reason, h.changed
		h.mu.Unlock()
		if client != nil {
			return client, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-deadline.C:
			return nil, fmt.Errorf("the backend plugin is not running: %w", reason)
		}
	}
}

// Status returns the process id (0: not running) and how often the plugin has been started.
func (h *pluginHost) Status() (pid, starts int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pid, h.starts
}

// pluginLog gives the plugin's own log lines a way to the preview's log.
func pluginLog(log *slog.Logger) hclog.Logger {
	level := hclog.Warn
	if log.Enabled(context.Background(), slog.LevelDebug) {
		level = hclog.Debug
	}
	return hclog.New(&hclog.LoggerOptions{Name: "plugin", Level: level, Output: os.Stderr})
}
