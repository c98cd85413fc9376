package agent

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
)

// Agent is one P-Scope agent.
type Agent struct {
	// Name under which users know it: its address or socket.
	Name string
	// URL is the base of its HTTP server, for proxying.
	URL *url.URL
	// Transport makes requests to it, with its token.
	Transport http.RoundTripper
	Scope     pscopev1connect.ScopeServiceClient
	History   *History

	mu   sync.Mutex
	host string // learnt from its first answer
}

// newAgent makes the clients of an agent at a base URL.
func newAgent(name, base string, rt http.RoundTripper, sample time.Duration) (*Agent, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	client := newClient(rt)
	history, err := newHistory(name, base, client)
	if err != nil {
		return nil, err
	}
	history.Native, history.Sample = true, sample
	return &Agent{
		Name: name, URL: u, Transport: rt, History: history,
		Scope: pscopev1connect.NewScopeServiceClient(client, base),
	}, nil
}

// Host is the host label of the agent's targets; empty until it has answered once.
func (a *Agent) Host() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.host
}

// Targets lists the targets that a selector chooses, and the agent itself.
func (a *Agent) Targets(ctx context.Context, s *pscopev1.Selector) (*pscopev1.ListTargetsResponse, error) {
	resp, err := a.Scope.ListTargets(ctx, connect.NewRequest(&pscopev1.ListTargetsRequest{Selector: s}))
	if err != nil {
		return nil, explain(a.Name, err)
	}
	if h := resp.Msg.GetAgent().GetHost(); h != "" {
		a.mu.Lock()
		a.host = h
		a.mu.Unlock()
	}
	return resp.Msg, nil
}

// Intervals gives raw intervals from the agent's ring.
func (a *Agent) Intervals(ctx context.Context, req *pscopev1.IntervalsRequest) (*pscopev1.IntervalsResponse, error) {
	return unary(ctx, a, a.Scope.Intervals, req)
}

// Stops gives stops from the agent's ring.
func (a *Agent) Stops(ctx context.Context, req *pscopev1.StopsRequest) (*pscopev1.StopsResponse, error) {
	return unary(ctx, a, a.Scope.Stops, req)
}

// Diagnose gives findings and blocked threads.
func (a *Agent) Diagnose(ctx context.Context, req *pscopev1.DiagnoseRequest) (*pscopev1.DiagnoseResponse, error) {
	return unary(ctx, a, a.Scope.Diagnose, req)
}

// Watch calls on for every message until the stream ends or on returns false. It returns nil only in the latter case.
func (a *Agent) Watch(ctx context.Context, req *pscopev1.WatchRequest, on func(*pscopev1.WatchResponse) bool) error {
	// A context of its own, so that leaving early cancels the stream on the agent's side, too.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := a.Scope.Watch(ctx, connect.NewRequest(req))
	if err != nil {
		return explain(a.Name, err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		if !on(stream.Msg()) {
			return nil
		}
	}
	if err := stream.Err(); err != nil {
		return explain(a.Name, err)
	}
	return &Error{Source: a.Name, Why: "the agent ended the stream", Next: "It may be restarting"}
}

func unary[Req, Resp any](ctx context.Context, a *Agent,
	call func(context.Context, *connect.Request[Req]) (*connect.Response[Resp], error), req *Req) (*Resp, error) {
	resp, err := call(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, explain(a.Name, err)
	}
	return resp.Msg, nil
}

// History is a Prometheus HTTP API: an agent's own store or an engine.
type History struct {
	Name   string
	Native bool          // histograms are native
	Sample time.Duration // distance of samples
	API    promv1.API
}

func newHistory(name, base string, client *http.Client) (*History, error) {
	c, err := api.NewClient(api.Config{Address: base, Client: client})
	if err != nil {
		return nil, err
	}
	return &History{Name: name, API: promv1.NewAPI(c)}, nil
}

// Explain puts an error of the agent's transport into words for users.
func (a *Agent) Explain(err error) error { return explain(a.Name, err) }
