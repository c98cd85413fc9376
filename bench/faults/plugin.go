//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/genproto/pluginv2"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// queries is what the bench asks a plugin for, the way Grafana does.
type queries struct{ plugin.NetRPCUnsupportedPlugin }

func (queries) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (queries) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return pluginv2.NewDataClient(c), nil
}

// startPlugin starts the plugin as Grafana does, without PATH and HOME, and lets it use the rig's agent.
func (r *rig) startPlugin() (*plugin.Client, pluginv2.DataClient, error) {
	cmd := exec.Command(filepath.Join(r.dir, "gpx_pscope"))
	cmd.Env = []string{"GF_VERSION=12.4.0", "GF_PLUGIN_ALLOWED_SOCKETS=" + r.socket()}
	c := plugin.NewClient(&plugin.ClientConfig{
		Cmd: cmd, AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, SkipHostEnv: true,
		Logger: hclog.NewNullLogger(),
		HandshakeConfig: plugin.HandshakeConfig{ProtocolVersion: 2, MagicCookieKey: "grafana_plugin_type",
			MagicCookieValue: "datasource"},
		VersionedPlugins: map[int]plugin.PluginSet{2: {"data": queries{}}},
	})
	rpc, err := c.Client()
	if err != nil {
		c.Kill()
		return nil, nil, err
	}
	raw, err := rpc.Dispense("data")
	if err != nil {
		c.Kill()
		return nil, nil, err
	}
	return c, raw.(pluginv2.DataClient), nil
}

// ask asks the plugin for the last ten seconds; the error is also that there is nothing in them.
func (r *rig) ask(d pluginv2.DataClient) error {
	settings, err := json.Marshal(map[string]any{"socketPath": r.socket(), "startAgent": false})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	now := time.Now()
	resp, err := d.QueryData(ctx, &pluginv2.QueryDataRequest{
		PluginContext: &pluginv2.PluginContext{OrgId: 1, PluginId: "pscope-pscope-datasource",
			DataSourceInstanceSettings: &pluginv2.DataSourceInstanceSettings{Uid: "pscope", Name: "P-Scope",
				JsonData: settings}},
		Queries: []*pluginv2.DataQuery{{RefId: "A", MaxDataPoints: 100, IntervalMS: 1000, Json: []byte(`{}`),
			TimeRange: &pluginv2.TimeRange{FromEpochMS: now.Add(-10 * time.Second).UnixMilli(),
				ToEpochMS: now.UnixMilli()}}},
	})
	if err != nil {
		return err
	}
	a := resp.GetResponses()["A"]
	if a.GetError() != "" {
		return errors.New(a.GetError())
	}
	if len(a.GetFrames()) == 0 {
		return errors.New("the plugin answers with nothing")
	}
	return nil
}

// pluginEnds ends the plugin's process and starts another at once, as Grafana does some time later. Blind is from the
// end until the next one answers a query with data.
func pluginEnds(dir string, sig syscall.Signal) (*outcome, error) {
	r, err := newRig(dir, storage{})
	if err != nil {
		return nil, err
	}
	defer r.close()
	c, d, err := r.startPlugin()
	if err != nil {
		return nil, fmt.Errorf("start the plugin: %w", err)
	}
	defer c.Kill()
	if err := r.ask(d); err != nil {
		return nil, fmt.Errorf("ask the plugin: %w", err)
	}
	f := r.begin()
	at := time.Now()
	if err := syscall.Kill(c.ReattachConfig().Pid, sig); err != nil {
		return nil, err
	}
	for !c.Exited() {
		if time.Since(at) > 30*time.Second {
			return nil, errors.New("the plugin does not end within 30 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
	next, d, err := r.startPlugin()
	if err != nil {
		return nil, fmt.Errorf("start the plugin again: %w", err)
	}
	defer next.Kill()
	for err = r.ask(d); err != nil; err = r.ask(d) {
		if time.Since(at) > time.Minute {
			return nil, fmt.Errorf("ask the plugin again: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	answered := time.Since(at)
	o, err := r.verdict(f, time.Now())
	if err == nil {
		o.Blind, o.Note = max(o.Blind, answered.Seconds()), "started again at once; Grafana takes up to 3 s to notice"
	}
	return o, err
}
