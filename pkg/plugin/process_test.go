//go:build linux

package plugin

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/grafana/grafana-plugin-sdk-go/genproto/pluginv2"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// services is what Grafana's host dispenses from a plugin.
type services struct {
	pluginv2.DataClient
	pluginv2.DiagnosticsClient
	pluginv2.StreamClient
	pluginv2.ResourceClient
}

type grpcServices struct{ plugin.NetRPCUnsupportedPlugin }

func (grpcServices) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (grpcServices) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return &services{pluginv2.NewDataClient(c), pluginv2.NewDiagnosticsClient(c), pluginv2.NewStreamClient(c),
		pluginv2.NewResourceClient(c)}, nil
}

// startPlugin runs the plugin as a process of its own, the way Grafana does. Beside it lies the agent it brings along.
func startPlugin(t *testing.T) (*services, *plugin.Client) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"gpx_pscope_linux_" + runtime.GOARCH, "pscope_linux_" + runtime.GOARCH} {
		if err := os.Link(self, filepath.Join(dir, name)); err != nil {
			// Another file system: a copy does as well.
			text, err := os.ReadFile(self)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.Command(filepath.Join(dir, "gpx_pscope_linux_"+runtime.GOARCH))
	// Grafana gives plugins no PATH and no HOME.
	cmd.Env = []string{"GF_VERSION=12.4.0", "GF_PLUGIN_ALLOWED_SOCKETS=" + os.Getenv("GF_PLUGIN_ALLOWED_SOCKETS")}
	client := plugin.NewClient(&plugin.ClientConfig{
		Cmd: cmd, AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, SkipHostEnv: true,
		HandshakeConfig: plugin.HandshakeConfig{ProtocolVersion: 2, MagicCookieKey: "grafana_plugin_type",
			MagicCookieValue: "datasource"},
		VersionedPlugins: map[int]plugin.PluginSet{2: {"data": grpcServices{}}},
	})
	t.Cleanup(client.Kill)
	rpc, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rpc.Dispense("data")
	if err != nil {
		t.Fatal(err)
	}
	return raw.(*services), client
}

func pluginContext(json string) *pluginv2.PluginContext {
	return &pluginv2.PluginContext{OrgId: 1, PluginId: ID,
		DataSourceInstanceSettings: &pluginv2.DataSourceInstanceSettings{
			Uid: "pscope", Name: "P-Scope", JsonData: []byte(json), LastUpdatedMS: time.Now().UnixMilli(),
		}}
}

func TestPluginProcess(t *testing.T) {
	a := startAgent(t, "web-1", 1, 4)
	grafana, _ := startPlugin(t)
	pc := pluginContext(agentsJSON(a.url))
	health, err := grafana.CheckHealth(t.Context(), &pluginv2.CheckHealthRequest{PluginContext: pc})
	if err != nil || health.GetStatus() != pluginv2.CheckHealthResponse_OK {
		t.Fatalf("health: %v %v", health, err)
	}
	now := time.Now()
	resp, err := grafana.QueryData(t.Context(), &pluginv2.QueryDataRequest{PluginContext: pc,
		Queries: []*pluginv2.DataQuery{{
			RefId: "A", MaxDataPoints: 100, IntervalMS: 1000, Json: []byte(`{"live":true}`),
			TimeRange: &pluginv2.TimeRange{FromEpochMS: now.Add(-30 * time.Second).UnixMilli(),
				ToEpochMS: now.UnixMilli()},
		}}})
	if err != nil || resp.GetResponses()["A"].GetError() != "" {
		t.Fatalf("query: %v %v", resp, err)
	}
	frames, err := data.UnmarshalArrowFrames(resp.GetResponses()["A"].GetFrames())
	if err != nil || len(frames) != 1 || len(frames[0].Fields) != 5 {
		t.Fatalf("frames: %v %v", frames, err)
	}
	path := strings.TrimPrefix(frames[0].Meta.Channel, "ds/pscope/")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := grafana.RunStream(ctx, &pluginv2.RunStreamRequest{PluginContext: pc, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if p, err := stream.Recv(); err != nil || !json.Valid(p.GetData()) {
			t.Fatalf("stream: %v %v", p, err)
		}
	}
}

func TestBundledAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("starting an agent takes root or file capabilities")
	}
	grafana, client := startPlugin(t)
	pc := pluginContext(`{"socketPath":"` + t.TempDir() + `/run/pscope.sock"}`)
	check := func() Health {
		r, err := grafana.CheckHealth(t.Context(), &pluginv2.CheckHealthRequest{PluginContext: pc})
		if err != nil {
			t.Fatal(err)
		}
		var h Health
		if err := json.Unmarshal(r.GetJsonDetails(), &h); err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := check()
	if !h.OK || !h.Agents[0].Bundled || h.Agents[0].Version != "bundled" {
		t.Fatalf("got %+v", h)
	}
	agents := children(t, client.ReattachConfig().Pid)
	if len(agents) != 1 {
		t.Fatalf("the plugin runs %d processes", len(agents))
	}
	// An agent that dies is replaced.
	if err := syscall.Kill(agents[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if h = check(); h.OK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no agent again: %+v", h)
		}
	}
	if next := children(t, client.ReattachConfig().Pid); len(next) != 1 || next[0] == agents[0] {
		t.Fatalf("was %v, is %v", agents, next)
	} else {
		agents = next
	}
	// With the plugin, however it ends, the agent goes too.
	if err := syscall.Kill(client.ReattachConfig().Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if syscall.Kill(agents[0], 0) == syscall.ESRCH || zombie(agents[0]) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the agent outlives the plugin")
		}
	}
}

// children are the processes whose parent is pid.
func children(t *testing.T, pid int) (out []int) {
	t.Helper()
	tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tasks {
		text, _ := os.ReadFile(f)
		for _, w := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(w); err == nil {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out
}

func zombie(pid int) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(text), ") Z ")
}

func TestDisposeEndsTheAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("starting an agent takes root or file capabilities")
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(filepath.Dir(self), "pscope_linux_"+runtime.GOARCH)
	if err := os.Link(self, link); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(link) }()
	json := `{"socketPath":"` + dir + `/pscope.sock"}`
	first, second := newDatasource(t, json), newDatasource(t, json)
	for _, d := range []*Datasource{first, second} {
		if r, _ := checkHealth(t, d); r.Status != backend.HealthStatusOk {
			t.Fatalf("health: %s", r.Message)
		}
	}
	agents := children(t, os.Getpid())
	if len(agents) != 1 {
		t.Fatalf("two data sources of one socket run %d agents", len(agents))
	}
	first.Dispose()
	if r, _ := checkHealth(t, second); r.Status != backend.HealthStatusOk {
		t.Errorf("the second data source lost its agent with the first: %s", r.Message)
	}
	second.Dispose()
	if left := children(t, os.Getpid()); len(left) != 0 {
		t.Errorf("left running: %v", left)
	}
}
